"""An edited prompt beside its original: figures as scoring all development rows at once gives them, and no test row is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.chatting import NO_SYSTEM, TURNS, talking
from fixtures.models import save, subject
from fixtures.prompting import toy

from engine import profile
from engine.data.rows import Row
from engine.errors import UsageError
from engine.prompts import answers, calibration, tried, turns
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.serve import Server
from engine.subject import Subject

ORIGINAL = "Say {text} now:"
EDITED = "Well { then } say {text} now:"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> profile.Profile:
    """A profile whose step 1 chooses a prompt for 20 development rows."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 4), ("dev", 20), ("test", 6)):
        lines = [json.dumps({"text": f"{split} {i} {i * i}", "label": "ab"[i % 2]}) for i in range(count)]
        Path(f"{split}.jsonl").write_text("\n".join(lines))
    text = f"""
        name = "small"
        [model]
        source = "{tmp_path / "model"}"
        [task.mood]
        train = "file:train.jsonl"
        dev = "file:dev.jsonl"
        test = "file:test.jsonl"
        template = "Say {{text}} now:"
        labels = {{ a = " yes", b = " no" }}
        [[step]]
        use = "prune"
        [[step]]
        use = "select_prompt"
        task = "mood"
        candidates = ["Yes or no?"]
        calibration = "batch"
    """
    Path("small.toml").write_text(text)
    return profile.load("small.toml")


@pytest.fixture
def model() -> Subject:
    return subject("llama")


def lines(model: Subject, made: profile.Profile, edited: str = EDITED, most: int = 100) -> list[dict[str, Any]]:
    return list(tried.trying(model, made, 1, edited, ORIGINAL, most))


def test_figures_are_those_of_all_rows_at_once(model: Subject, made: profile.Profile) -> None:
    *_, last = found = lines(model, made)
    assert [line["rows"] for line in found] == [8, 16, 20]
    task = tried.load_task("mood", made.task["mood"], made.seed)
    for name, text in (("edited", "Well {{ then }} say {text} now:"), ("original", ORIGINAL)):
        scores = Scorer(model).score(Prompt(name, text), task.dev, 2)
        expected = answers.judged("accuracy", scores, calibration.offsets("batch", scores, None), task.dev)
        assert last[name]["value"] == expected.quality
    assert last["difference"] == pytest.approx(last["edited"]["value"] - last["original"]["value"])
    assert last["n"] == 20
    assert last["edited"]["tokens"] > last["original"]["tokens"]
    assert "verdict" not in found[0]


def test_a_prompt_that_is_its_original_is_a_tie(model: Subject, made: profile.Profile) -> None:
    last = lines(model, made, ORIGINAL, most=8)[-1]
    assert (last["of"], last["difference"], last["verdict"]) == (8, 0.0, "tie")


def test_test_rows_are_not_looked_at(model: Subject, made: profile.Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    plain = answers.asked
    monkeypatch.setattr(answers, "asked", lambda *a: (seen.extend(row.text for row in a[3]), plain(*a))[1])
    lines(model, made)
    assert seen
    assert {text.split()[0] for text in seen} == {"dev"}


@pytest.mark.parametrize(("text", "message"), [("no field at all", "no field"), ("", "no field")])
def test_a_text_that_would_read_the_same_for_every_row_is_refused(
    text: str, message: str, model: Subject, made: profile.Profile
) -> None:
    with pytest.raises(UsageError, match=message):
        lines(model, made, text)


def test_a_step_without_prompts_is_refused(model: Subject, made: profile.Profile) -> None:
    with pytest.raises(UsageError, match="chooses no prompt"):
        list(tried.trying(model, made, 0, EDITED, ORIGINAL, 8))


def test_braces_that_are_no_field_are_characters() -> None:
    text = 'a {text} {b} {{text}} "}"'
    assert tried.template(text, ["text"]).format_map({"text": "X"}) == 'a X {b} {X} "}"'


@pytest.mark.parametrize("shown", [0, 1])
def test_what_is_shown_of_a_template_with_braces_reads_back_as_it(shown: int) -> None:
    row = Row("good", {"text": "good {film}"}, (" no", " yes"), 1)
    prompt = Prompt("p", 'JSON {{"review": "{text}"}}\nAnswer:', "Say so.", (row,) * shown)
    assert '\nJSON {"review": "{text}"}\n' in prompt.shown()
    assert tried.written("p", prompt.shown(), ["text"], chat=False).fill(row) == prompt.fill(row)


def test_the_worker_scores_with_each_model_in_turns(tmp_path: Path, made: profile.Profile) -> None:
    one, two = (str(save("llama", tmp_path / name, seed)) for seed, name in enumerate("ab"))
    said: list[dict[str, Any]] = []
    request = {"profile": "small.toml", "step": 1, "text": EDITED, "original": ORIGINAL, "rows": 16}
    Server(said.append).answer({**request, "models": [one, two]})
    rows = [(line["model"], line["rows"]) for line in said if "rows" in line]
    assert rows == [(one, 8), (two, 8), (one, 16), (two, 16)]
    assert said[-1] == {"end": True}


CHAT = "<system>\nSay yes or no.\n\n<user>\nSay x now:\n\n<assistant>\nyes\n\n<user>\nSay {text} now:"


def talk(made: profile.Profile, edited: str, original: str = CHAT, template: str = TURNS) -> list[dict[str, Any]]:
    task = made.task["mood"].model_copy(update={"chat": "on"})
    return list(
        tried.trying(talking(template), made.model_copy(update={"task": {"mood": task}}), 1, edited, original, 16)
    )


def test_a_chat_is_scored_as_the_prompt_that_it_shows(made: profile.Profile) -> None:
    *_, last = talk(made, CHAT.replace("yes or no", "yes, or no { at all }"))
    task = tried.load_task("mood", made.task["mood"], made.seed)
    shown = Row("x", {"text": "x"}, ("yes", "no"), 0)
    whole = Prompt("p", "Say {text} now:", "Say yes or no.", (shown,), chat="system")
    assert whole.readable() == CHAT
    scores = Scorer(talking(TURNS)).score(whole, task.dev[:16], 2)
    expected = answers.judged("accuracy", scores, calibration.offsets("batch", scores, None), task.dev[:16])
    assert last["original"]["value"] == expected.quality
    assert last["edited"]["tokens"] > last["original"]["tokens"]


@pytest.mark.parametrize("chat", ["system", "user"])
def test_what_is_shown_of_a_chat_reads_back_as_it(chat: str) -> None:
    for instruction in ("", "Say yes or no.", "Two\n\nparts {}\n"):
        prompt = Prompt("p", "{text}\n\nAnswer:\n", instruction, tuple(toy().train[:2]), chat=chat)
        read = turns.read("p", prompt.readable(), lambda said: tried.template(said, ["text"]), "here")
        row = toy().dev[0]
        assert read.messages(row) == prompt.messages(row)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Say {text} now:", "begins without a turn"),
        ("Well.\n<user>\n{text}", "begins without a turn"),
        ("<user>\n{text}\n\n<assistant>\nyes", "the last turn is <assistant>"),
        ("<user>\nSay it", "no field"),
        ("<user>\n{text}\n\n<system>\nHm\n\n<user>\nNow:", "does not take these turns"),
    ],
)
def test_what_is_no_chat_is_refused(text: str, said: str, made: profile.Profile) -> None:
    late = "{% for m in messages[1:] if m.role == 'system' %}{{ raise_exception('system is first') }}{% endfor %}"
    with pytest.raises(UsageError, match=said) as caught:
        talk(made, text, template=late + TURNS)
    assert caught.value.where == "the edited prompt"


def test_a_models_template_that_knows_no_system_says_so(made: profile.Profile) -> None:
    with pytest.raises(UsageError, match="does not take these turns: no system"):
        talk(made, CHAT, template=NO_SYSTEM)

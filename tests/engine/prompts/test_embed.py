"""The `embed_prompt` step: kept only if better than the text, loads again, and a stop in the middle changes nothing."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject
from fixtures.prompting import INSTRUCTION, TEMPLATE, toy
from fixtures.workspaces import workspace

from engine import events as ev
from engine import preflight
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import Cancelled, UsageError
from engine.prompts import embed, room
from engine.prompts import soft as soft_prompts
from engine.prompts.finals import latest_winner
from engine.prompts.kept import WINNER
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, Form, PromptStepOptions, SelectPromptOptions
from engine.prompts.reading import Reading, nearest_tokens, read
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft, beginning
from engine.prompts.template import Prompt
from engine.pruning.options import PruneOptions
from engine.subject import Subject
from engine.workspace import Workspace

SEED = 4


def options(**changes: Any) -> EmbedPromptOptions:
    chosen = {
        "use": "embed_prompt", "task": "toy", "instruction": INSTRUCTION, "tokens": 6, "epochs": 2, "rows": 8, "batch": 4,
        "learning_rate": 1e-2, "calibration": "batch", "alpha": 0.0, **changes,
    }  # fmt: skip
    return EmbedPromptOptions.model_validate(chosen)


def at_work(
    folder: Path, chosen: EmbedPromptOptions, told: list[ev.Event] | None = None, task: Task | None = None
) -> Workspace:
    made = workspace(folder, subject("llama", seed=SEED), told=told)
    made._tasks["toy"] = task or toy()
    made.profile = made.profile.model_copy(update={"step": [chosen]})
    made.dense_subject = lambda: subject("llama", seed=1)  # type: ignore[method-assign]
    return made


def planted(form: Form) -> Soft:
    """Virtual tokens that are nothing like a text."""
    begun = beginning(form, subject("llama", seed=SEED), [7] * 6)
    noise = torch.randn(begun.weight_NW.shape, generator=torch.Generator().manual_seed(5))
    return replace(begun, weight_NW=begun.weight_NW + 0.5 * noise)


def answering(monkeypatch: pytest.MonkeyPatch, virtual: float, text: float) -> None:
    """Every model answers right with a margin of this mean, with virtual tokens and without, and a spread of 1."""

    def score(scorer: Scorer, prompt: Prompt, rows: list[Row], width: int | None = None) -> torch.Tensor:
        seeds = [zlib.crc32((prompt.text() + row.text).encode()) for row in rows]
        noise = [torch.randn(1, generator=torch.Generator().manual_seed(seed)).item() for seed in seeds]
        margins = [(virtual if prompt.soft else text) + some for some in noise]
        return torch.tensor(
            [[m if j == row.gold else 0.0 for j in range(2)] for m, row in zip(margins, rows, strict=True)]
        ).double()

    monkeypatch.setattr(Scorer, "score", score)


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that comes to the planted tokens, and answers that are better with them."""
    answering(monkeypatch, 1.0, 0.2)
    monkeypatch.setattr(embed.Tuning, "run", lambda tuning, start: planted(start.form))


TEXT = Prompt("start", TEMPLATE, INSTRUCTION)


@pytest.mark.usefixtures("learning")
@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_what_is_better_than_the_text_is_kept(form: Form, tmp_path: Path) -> None:
    told: list[ev.Event] = []
    chosen = options(form=form)
    made = at_work(tmp_path / "run", chosen, told)
    summary = embed.run(made, chosen)
    assert (summary["winner"], summary["baseline"], summary["kept"]) == (form, "start", True)
    assert (summary["form"], summary["virtual_tokens"]) == (form, 6)
    folder = made.run.artifacts / "soft-prompt"
    assert soft_prompts.load(folder) == planted(form)
    record = json.loads((folder / WINNER).read_text())
    assert (record["instruction"], record["virtual_tokens"]) == (INSTRUCTION, 6)
    assert "virtual_tokens = 6" in (folder / "prompt.toml").read_text()
    assert len(json.loads((folder / embed.READING).read_text())["tokens"]) == 6
    compared = {(e.a, e.b, e.calibration) for e in told if isinstance(e, ev.PromptsCompared)}
    others = {"plain", "start"} | ({"projected"} if form == "soft" else set())
    assert compared == {(form, other, kind) for other in others for kind in ("none", "batch")}
    made.finish({"summary": summary})
    made.step = 1
    found = latest_winner(made, "toy")
    assert found is not None
    assert found.soft == planted(form)


@pytest.mark.usefixtures("learning")
def test_what_is_not_better_than_the_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0.2, 1.0)
    made = at_work(tmp_path / "run", options())
    summary = embed.run(made, options())
    assert summary["winner"] in ("plain", "projected", "start")
    assert not summary["kept"]
    folder = made.run.artifacts / "soft-prompt"
    assert soft_prompts.load(folder) is None
    assert json.loads((folder / WINNER).read_text())["name"] == summary["winner"]
    assert any("soft is refused" in line.message for line in made.state.log)


@pytest.mark.usefixtures("learning")
def test_the_dense_model_is_a_control(tmp_path: Path) -> None:
    chosen = options(control=True)
    told: list[ev.Event] = []
    made = at_work(tmp_path / "run", chosen, told)
    made.stage = "pruned"
    embed.run(made, chosen)
    scored = {e.candidate for e in told if isinstance(e, ev.CandidateScored) and e.stage == "dense"}
    assert scored == {"soft", "start", "plain", "projected"}
    made.dense_subject = lambda: subject("llama", seed=1, hidden_size=64)  # type: ignore[method-assign]
    told.clear()
    embed.run(made, chosen)
    scored = {e.candidate for e in told if isinstance(e, ev.CandidateScored) and e.stage == "dense"}
    assert scored == {"start", "plain", "projected"}


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_whole_step_says_what_it_does(alpha: float, tmp_path: Path) -> None:
    told: list[ev.Event] = []
    made = at_work(tmp_path / "run", options(alpha=alpha), told)
    made.stage = "pruned"
    summary = embed.run(made, options(alpha=alpha))
    assert [event.epoch for event in made.state.trainings] == [0, 1, 2]
    assert {event.n for event in made.state.trainings} == {8}
    (reading,) = made.state.readings
    assert len(reading.tokens) == len(reading.cosines) == 6
    dev = [e for e in told if isinstance(e, ev.CandidateScored) and e.split == "dev"]
    assert {e.n for e in dev} == {32}  # without those that the training was checked on
    assert summary["candidates"] == 4


@pytest.mark.parametrize("form", ["soft", "prefix"])
@pytest.mark.parametrize("stop", [3, 6, 9])
def test_stopped_anywhere_and_run_again_it_ends_the_same(stop: int, form: Form, tmp_path: Path) -> None:
    chosen = options(form=form, learning_rate=5e-2, alpha=0.3)
    whole = embed.run(at_work(tmp_path / "whole", chosen), chosen)
    checks = iter(range(10_000))
    broken = at_work(tmp_path / "broken", chosen)
    broken.should_stop = lambda: next(checks) >= stop
    with pytest.raises(Cancelled):
        embed.run(broken, chosen)
    assert embed.run(at_work(tmp_path / "broken", chosen), chosen) == whole
    for name in (WINNER, embed.READING, "examples.jsonl"):
        kept = [(tmp_path / run / "artifacts" / "soft-prompt" / name).read_bytes() for run in ("whole", "broken")]
        assert kept[0] == kept[1]


def test_it_begins_with_the_texts_own_tokens(tmp_path: Path) -> None:
    for count in (3, 60):
        chosen = options(tokens=count)
        made = at_work(tmp_path / str(count), chosen)
        contest = embed.Contest.open(made, chosen)
        work = embed.Embedding(made, chosen, contest, TEXT, contest.task.train, contest.task.dev)
        begun, ids = work.beginning()
        tokenizer: Any = made.subject.tokenizer
        once = tokenizer(INSTRUCTION).input_ids
        assert len(ids) == begun.tokens == count
        assert ids[: len(once)] == once[:count]
        assert tokenizer.decode(ids).startswith((INSTRUCTION + "\n\n" + INSTRUCTION[:4])[: 3 if count == 3 else 200])
        weight = made.subject.module.get_input_embeddings().weight  # type: ignore[operator]
        assert torch.equal(begun.weight_NW, weight[ids].cpu())


def test_it_goes_on_with_what_an_earlier_step_learned(tmp_path: Path) -> None:
    chosen = options()
    made = at_work(tmp_path / "run", chosen)
    contest = embed.Contest.open(made, chosen)
    carried = replace(TEXT, soft=planted("soft"))
    work = embed.Embedding(made, chosen, contest, carried, contest.task.train, contest.task.dev)
    assert work.beginning() == (planted("soft"), [])
    other = replace(work, options=options(tokens=7))
    assert other.beginning()[0].tokens == 7


def working(folder: Path, chosen: EmbedPromptOptions, start: Prompt) -> embed.Embedding:
    made = at_work(folder, chosen)
    contest = embed.Contest.open(made, chosen)
    rows = room.check(contest, chosen, start)
    return embed.Embedding(made, chosen, contest, start, rows, embed.held_back(contest, chosen))


NOTHING = Reading([], [], "")


def test_the_text_by_itself_is_a_rival_of_a_continued_training(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(), replace(TEXT, soft=planted("soft")))
    learned = replace(planted("soft"), weight_NW=planted("soft").weight_NW + 1)
    others, virtual = work.enter(learned, NOTHING)
    prompts = work.contest.race.prompts
    assert [prompts[i].name for i in others] == ["plain", "text", "start"]
    assert prompts[others[1]].same(TEXT)
    assert prompts[virtual].soft == learned
    with pytest.raises(UsageError, match="4 examples for 5 prompts"):
        working(tmp_path / "poor", options(budget=4), replace(TEXT, soft=planted("soft")))


@pytest.mark.usefixtures("learning")
def test_a_continued_training_that_improves_nothing_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = working(tmp_path / "run", options(), replace(TEXT, soft=planted("soft")))
    others, learned = work.enter(planted("soft"), NOTHING)
    assert learned not in others
    assert work.contest.race.prompts[learned].name == "start"
    summary = embed.settle(work, planted("soft"), NOTHING)
    assert (summary["winner"], summary["kept"]) == ("start", False)
    assert any("nothing was learned" in line.message for line in work.workspace.state.log)


def test_what_the_tokens_say_is_no_candidate_where_it_has_no_room(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(), TEXT)
    rest = room.longest(work.contest, TEXT, work.rows)
    said = Reading([], [], " yes" * (512 - rest - 20))
    assert [prompt.name for prompt in work.projected(said)] == ["projected"]
    assert work.projected(Reading([], [], " yes" * (512 - rest + 1))) == []
    assert "projected is left out" in work.workspace.state.log[-1].message
    assert work.projected(NOTHING) == []


def test_the_dense_model_is_not_its_own_teacher(tmp_path: Path) -> None:
    work = working(tmp_path / "run", options(alpha=0.5), TEXT)
    assert work.teacher() is None
    work.workspace.stage = "pruned"
    assert work.teacher() is not None


def test_shown_rows_are_not_trained_on_and_the_rest_is_drawn_by_seed() -> None:
    task = replace(toy(), train=sorted(toy().train, key=lambda row: row.gold))
    shown = replace(TEXT, demonstrations=tuple(task.train[:2]))
    everything = room.training(task, options(), shown, 0)
    assert len(everything) == 10
    assert not any(row in shown.demonstrations for row in everything)
    some = room.training(task, options(train_rows=4), shown, 0)
    assert sorted(row.gold for row in some) == [0, 0, 1, 1]
    assert some == room.training(task, options(train_rows=4), shown, 0)
    assert some != room.training(task, options(train_rows=4), shown, 1)


def test_checks_are_made_on_rows_of_every_class(tmp_path: Path) -> None:
    task = replace(toy(), dev=sorted(toy().dev, key=lambda row: row.gold))
    contest = embed.Contest.open(at_work(tmp_path / "run", options(), task=task), options())
    held = embed.held_back(contest, options())
    assert sorted(row.gold for row in held) == [0] * 4 + [1] * 4
    assert len(contest.race.rows) == 32
    assert not {id(row) for row in held} & {id(row) for row in contest.race.rows}


def test_the_nearest_token_of_a_tokens_own_embedding_is_itself() -> None:
    model: Subject = subject("llama")
    ids = [300, 17, 45]
    begun = beginning("soft", model, ids)
    assert nearest_tokens(2.5 * begun.weight_NW, model)[0] == ids
    reading = read(begun, begun, ids, model)
    assert model.tokenizer is not None
    assert reading.tokens == [model.tokenizer.decode([i]) for i in ids]
    assert reading.cosines == pytest.approx([1.0] * 3)
    assert read(beginning("prefix", model, ids), beginning("prefix", model, ids), ids, model).text == ""
    anew = read(beginning("prefix", model, ids), beginning("prefix", model, ids), [], model)
    assert (anew.tokens, len(anew.cosines)) == (["position 0", "position 1", "position 2"], 3)


@pytest.mark.parametrize(
    ("changes", "task", "message"),
    [
        ({"tokens": 500}, toy(), "500 virtual tokens ahead of .* do not fit in the model's 512 positions"),
        ({}, replace(toy(), train=[]), "no rows to train on"),
        ({}, replace(toy(), dev=toy().dev[:1]), "one development row cannot both"),
        ({"budget": 3}, toy(), "a budget of 3 examples"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, Any], task: Task, message: str, tmp_path: Path) -> None:
    chosen = options(**changes)
    with pytest.raises(UsageError, match=message) as refused:
        embed.run(at_work(tmp_path / "run", chosen, task=task), chosen)
    assert refused.value.where
    assert refused.value.hint


@pytest.mark.parametrize(
    ("changes", "task", "where", "message"),
    [
        ({"tokens": 500}, toy(), "step.1.tokens", "500 virtual tokens"),
        ({"instruction": "yes " * 600}, toy(), "step.1.tokens", "do not fit"),
        ({}, replace(toy(), train=[]), "task toy", "no rows to train on"),
        ({"demonstrations": 12}, toy(), "task toy", "no rows to train on"),
        ({}, replace(toy(), dev=toy().dev[:1]), "task toy", "one development row cannot both"),
        ({"budget": 3}, toy(), "step.1.budget", "a budget of 3 examples"),
        ({}, replace(toy(), labels={}), "task toy", "calibration needs a task with fixed labels"),
    ],
)
def test_what_the_step_would_refuse_is_refused_before_the_run(
    changes: dict[str, Any], task: Task, where: str, message: str, tmp_path: Path
) -> None:
    made = at_work(tmp_path / "run", options(), task=task)
    made.profile = made.profile.model_copy(update={"step": [PruneOptions(use="prune"), options(**changes)]})
    with pytest.raises(UsageError, match=message) as refused:
        preflight.check_prompts(made)
    assert refused.value.where == where
    assert "tokens = 1" not in str(refused.value.hint)
    replace(made, step=1).finish({"summary": {}})
    preflight.check_prompts(made)


def test_a_form_that_the_model_cannot_have_is_refused_before_the_run(tmp_path: Path) -> None:
    made = at_work(tmp_path / "run", options(form="prefix"))
    preflight.check_prompts(made)
    made.subject = subject("deepseek_v3")
    with pytest.raises(UsageError, match="one shape") as refused:
        preflight.check_prompts(made)
    assert refused.value.where == "step.0.form"


@pytest.mark.parametrize(
    ("step", "least"),
    [
        (SelectPromptOptions(use="select_prompt", task="toy", candidates=["a", "b"], budget=2), 3),
        (AdjustPromptOptions(use="adjust_prompt", task="toy", budget=6), 7),
        (AdjustPromptOptions(use="adjust_prompt", task="toy", instruction="a", budget=7), 8),
    ],
)
def test_a_budget_that_is_too_small_is_refused_before_the_run(
    step: PromptStepOptions, least: int, tmp_path: Path
) -> None:
    made = at_work(tmp_path / "run", options())
    made.profile = made.profile.model_copy(update={"step": [step]})
    with pytest.raises(UsageError, match=f"for {least} prompts") as refused:
        preflight.check_prompts(made)
    assert refused.value.where == "step.0.budget"
    made.profile = made.profile.model_copy(update={"step": [step.model_copy(update={"budget": least})]})
    preflight.check_prompts(made)


def test_bad_options_are_refused_before_the_run(tmp_path: Path) -> None:
    for bad in ({"tokens": 0}, {"alpha": 1.5}, {"temperature": 0.0}, {"form": "hard"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            options(**bad)
    made = at_work(tmp_path / "run", options(tokens=513))
    evaluate = made.profile.evaluate.model_copy(update={"perplexity": "none"})
    made.profile = made.profile.model_copy(
        update={"evaluate": evaluate, "calibration": made.profile.calibration.model_copy(update={"length": 40})}
    )
    with pytest.raises(UsageError, match="513 tokens, but the model has 512 positions") as refused:
        preflight.check_lengths(made)
    assert "512" not in str(refused.value.hint)  # the text needs room too

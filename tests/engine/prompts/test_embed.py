"""The `embed_prompt` step: kept only if better than the text, loads again, and a stop in the middle changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.embedding import TEXT, margins, options, planted
from fixtures.models import subject
from fixtures.prompting import INSTRUCTION, answering, at_work, toy

from engine import events as ev
from engine import preflight
from engine.data.tasks import Task
from engine.errors import Cancelled, UsageError
from engine.prompts import embed
from engine.prompts import soft as soft_prompts
from engine.prompts.finals import latest_winner
from engine.prompts.kept import EXAMPLES, WINNER
from engine.prompts.options import Form
from engine.prompts.reading import nearest_tokens, read
from engine.prompts.soft import beginning
from engine.subject import Subject


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that comes to the planted tokens, and answers that are better with them."""
    answering(monkeypatch, margins(1.0, 0.2))
    monkeypatch.setattr(embed.Tuning, "run", lambda tuning, trainee: [planted(trainee.soft.form).weight_NW])


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
    answering(monkeypatch, margins(0.2, 1.0))
    made = at_work(tmp_path / "run", options())
    summary = embed.run(made, options())
    assert summary["winner"] in ("plain", "projected", "start")
    assert not summary["kept"]
    folder = made.run.artifacts / "soft-prompt"
    assert soft_prompts.load(folder) is None
    assert json.loads((folder / WINNER).read_text())["name"] == summary["winner"]
    assert any("soft is refused" in line.message for line in made.state.log)


@pytest.mark.usefixtures("learning")
def test_what_is_as_good_as_the_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens are first by rank, but by less than chance gives."""
    noise, chosen = margins(0.0, 0.2), options(calibration="none")
    better = {row.text: 0.21 if index % 2 else -0.17 for index, row in enumerate(toy().dev)}
    answering(monkeypatch, lambda prompt, row: noise(TEXT, row) + (better.get(row.text, 0.0) if prompt.soft else 0.0))
    made = at_work(tmp_path / "run", chosen)
    summary = embed.run(made, chosen)
    told = [line.message for line in made.state.log if "soft is refused" in line.message]
    skills = [float(part.split()[0]) for part in told[0].split(": ")[1].split(", ")]
    assert skills[0] == max(skills), "the planted tokens must be the best by rank"
    assert (summary["winner"], summary["kept"]) == ("start", False)


@pytest.mark.usefixtures("learning")
def test_the_dense_model_is_a_control(tmp_path: Path) -> None:
    chosen = options(control=True)
    told: list[ev.Event] = []
    made = at_work(tmp_path / "run", chosen, told)
    made.stage = "pruned"
    embed.run(made, chosen)
    scored = {e.candidate for e in told if isinstance(e, ev.CandidateScored) and e.stage == "dense"}
    assert scored == {"soft", "start", "plain", "projected"}
    made.dense_subject = lambda: subject("llama", seed=1, hidden_size=64)
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
    for name in (WINNER, embed.READING, EXAMPLES):
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
        weight = made.subject.module.get_input_embeddings().weight
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


def test_bad_options_are_refused_before_the_run(tmp_path: Path) -> None:
    for bad in ({"tokens": 0}, {"alpha": 1.5}, {"temperature": 0.0}, {"form": "hard"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            options(**bad)
    made = at_work(tmp_path / "run", options(tokens=513))
    evaluate = made.profile.evaluate.model_copy(update={"perplexity": "none"})
    made.profile = made.profile.model_copy(
        update={"evaluate": evaluate, "calibration": made.profile.calibration.model_copy(update={"length": 40})}
    )
    with pytest.raises(UsageError, match="513 virtual tokens ahead of .* fit in the model's 512 positions") as refused:
        preflight.check(made, [])
    assert "512" not in str(refused.value.hint)  # the text needs room too

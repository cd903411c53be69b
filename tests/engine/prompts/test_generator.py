"""Greedy answers in batches behind a shared beginning are those of plain generation, one row at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.chatting import TURNS, talking
from fixtures.models import DEVICES, subject
from fixtures.prompting import INSTRUCTION, TEMPLATE, at_work, options, toy
from fixtures.unlike import STATEFUL, WINDOWED, unlike

from engine import events as ev
from engine.data.rows import Row
from engine.data.tasks import Generation, Task
from engine.errors import UsageError
from engine.prompts import adjust, early, finals, kept, paired, rendering, select
from engine.prompts import soft as soft_prompts
from engine.prompts.cache import ScoreCache
from engine.prompts.generator import fitting, generated
from engine.prompts.options import SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.subject import Subject

ARCHITECTURES = ["llama", "gpt2", "opt", "gemma3_text", "mixtral"]
HOW = Generation(12, "")
FEW_SHOT = Prompt("p", TEMPLATE, INSTRUCTION, tuple(toy().train[:2]))
PLAIN = Prompt("plain", "{text}")


def rows(count: int = 9) -> list[Row]:
    return [replace(row, choices=(" yes",), gold=0) for row in toy().dev[:count]]


def free(metric: str = "chrf", **changes: Any) -> Task:
    """The right answer is a row's own first two words."""
    task = toy(**changes)

    def answered(some: list[Row]) -> list[Row]:
        return [replace(r, choices=(" " + " ".join(r.text.split()[:2]), " yes"), gold=0) for r in some]

    return replace(task, labels={}, train=answered(task.train), dev=answered(task.dev), test=answered(task.test),
                   metric=metric, generation=Generation(6, "\n"))  # fmt: skip


def written(model: Subject, prompt: Prompt, row: Row, how: Generation) -> list[int]:
    """The tokens of transformers' own generation."""
    text = rendering.text(prompt, row, model.tokenizer)
    ids = torch.tensor(rendering.tokens([text], prompt, model.tokenizer), device=model.device)
    generate: Any = model.module.generate
    out = generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=how.tokens, pad_token_id=0)
    return list(out[0, ids.shape[1] :].tolist())


def alone(model: Subject, prompt: Prompt, row: Row, how: Generation) -> str:
    tokenizer: Any = model.tokenizer
    answer: str = tokenizer.decode(written(model, prompt, row, how), skip_special_tokens=True)
    return (answer.partition(how.stop)[0] if how.stop else answer).strip()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("prompt", [PLAIN, FEW_SHOT], ids=lambda p: p.name)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_plain_generation_one_at_a_time(name: str, prompt: Prompt, device: str) -> None:
    model = subject(name)
    model.module.to(device)
    found = generated(Scorer(model), HOW, prompt, rows())
    assert list(found) == [alone(model, prompt, row, HOW) for row in rows()]
    assert len(set(found)) > 1


@pytest.mark.parametrize("name", [*WINDOWED, *STATEFUL])
def test_without_keys_and_values_or_behind_a_window_it_is_plain_generation_too(name: str) -> None:
    model = unlike(name)
    found = generated(Scorer(model), HOW, PLAIN, rows())
    assert list(found) == [alone(model, PLAIN, row, HOW) for row in rows()]
    assert len(set(found)) > 1


def test_rows_that_may_not_be_padded() -> None:
    model = subject("gemma3_text", sliding_window=16)
    assert list(generated(Scorer(model), HOW, FEW_SHOT, rows())) == [alone(model, FEW_SHOT, row, HOW) for row in rows()]


def test_it_goes_on_from_chats_and_virtual_tokens() -> None:
    model = talking(TURNS)
    chat = replace(FEW_SHOT, chat="system")
    assert list(generated(Scorer(model), HOW, chat, rows())) == [alone(model, chat, row, HOW) for row in rows()]
    ids = model.tokenizer("a class is bound").input_ids
    ahead = replace(PLAIN, template=" to {text}", soft=soft_prompts.beginning("soft", model, ids))
    same = replace(PLAIN, template="a class is bound to {text}")
    assert generated(Scorer(model), HOW, ahead, rows()) == generated(Scorer(model), HOW, same, rows())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_answer_ends_at_its_stop_and_at_the_models_end(name: str) -> None:
    model = subject(name)
    whole = generated(Scorer(model), HOW, FEW_SHOT, rows())
    letter = next(c for c in "aeiount" if sum(c in text for text in whole) > 2)
    stopped = Generation(HOW.tokens, letter)
    assert list(generated(Scorer(model), stopped, FEW_SHOT, rows())) == [
        alone(model, FEW_SHOT, row, stopped) for row in rows()
    ]
    model.module.generation_config.eos_token_id = [0, written(model, FEW_SHOT, rows()[0], HOW)[2]]
    found = generated(Scorer(model), HOW, FEW_SHOT, rows())
    assert list(found) == [alone(model, FEW_SHOT, row, HOW) for row in rows()]
    assert found != whole


def test_what_was_written_is_not_written_again_and_limits_set_apart() -> None:
    model = subject("llama", seed=21)
    first = Scorer(model, ScoreCache())
    half = generated(first, HOW, FEW_SHOT, rows()[:4])
    again = Scorer(model, ScoreCache())
    assert generated(again, HOW, FEW_SHOT, rows())[:4] == half
    assert (first.computed, again.computed) == (4, 5)
    assert generated(again, HOW, FEW_SHOT, rows())[:4] == half
    assert again.computed == 5
    shorter = generated(again, Generation(3, ""), FEW_SHOT, rows())
    assert again.computed == 5 + 9
    model.module.generation_config.eos_token_id = [0, 7]
    generated(again, HOW, FEW_SHOT, rows())
    assert again.computed == 5 + 9 + 9
    model.module.generation_config.eos_token_id = 0
    assert all(
        long.startswith(short) for long, short in zip(generated(again, HOW, FEW_SHOT, rows()), shorter, strict=True)
    )


def test_stopped_and_run_again_it_ends_with_the_same() -> None:
    model, many = subject("llama", seed=22), [replace(r, fields={"text": r.text * 3}) for r in toy(dev=150).dev]
    undisturbed = generated(Scorer(model), HOW, PLAIN, many)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        generated(Scorer(model, ScoreCache(), stop), HOW, PLAIN, many)
    again = Scorer(model, ScoreCache())
    assert generated(again, HOW, PLAIN, many) == undisturbed
    assert 0 < again.computed < len({row.text for row in many})


def test_a_row_that_leaves_no_room_for_its_answer_is_cut_and_counted() -> None:
    model = subject("llama", max_position_embeddings=128)
    long = replace(rows()[1], fields={"text": "a name is bound " * 60})
    scorer = Scorer(model)
    found = generated(scorer, HOW, PLAIN, [rows()[0], long])
    assert scorer.cut == {"plain": {long.digest}}
    assert found[0] == alone(model, PLAIN, rows()[0], HOW)
    (sequence,) = fitting(scorer, HOW, PLAIN, [long])
    assert 128 - HOW.tokens - 4 <= len(sequence.tokens) <= 128 - HOW.tokens
    with pytest.raises(UsageError, match="no room in the model's context"):
        generated(scorer, Generation(127, ""), FEW_SHOT, rows())


# The steps on a task with free answers


def selecting(**changes: Any) -> SelectPromptOptions:
    made = {"use": "select_prompt", "task": "toy", "candidates": [INSTRUCTION, "Repeat it."], "demonstrations": [0, 2],
            "budget": 120, "robustness": ["case"], "robustness_rows": 6, "control": True, **changes}  # fmt: skip
    return SelectPromptOptions.model_validate(made)


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "chrf", "bleu"])
def test_a_prompt_is_selected_by_its_answers(metric: str, tmp_path: Path) -> None:
    told: list[ev.Event] = []
    made = at_work(tmp_path, selecting(), told, free(metric, test=12))
    made.step, made.stage = 0, "pruned"
    summary = select.run(made, selecting())
    scored = [e for e in told if isinstance(e, ev.CandidateScored)]
    assert {e.metric for e in scored} == {metric}
    assert {"dense", "pruned"} == {e.stage for e in scored if e.split == "test"}
    assert all(0 <= e.low <= e.accuracy <= e.high <= 1 for e in scored)
    assert [e.metric for e in told if isinstance(e, ev.PromptPerturbed)]
    best = [e for e in scored if (e.candidate, e.split, e.stage) == (summary["winner"], "test", "pruned")]
    assert best[-1].accuracy == summary[metric]
    folder = made.run.artifacts / summary["prompts"]
    assert kept.read(folder).offsets == []
    answers = paired.winner_of(folder, "1")
    assert (answers.metric, len(answers.rows)) == (metric, 12)
    (found,) = paired.differences([answers, answers])
    assert (found.accuracy_a, found.verdict) == (pytest.approx(summary[metric], abs=1e-5), "tie")


def test_the_prompt_whose_answers_are_better_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: only one instruction makes the model repeat a row's beginning."""

    def repeat(scorer: Scorer, how: Generation, prompt: Prompt, some: list[Row]) -> tuple[str, ...]:
        good = prompt.instruction == "Repeat it."
        return tuple(r.choices[0].strip() if good and i % 3 else "module" for i, r in enumerate(some))

    monkeypatch.setattr("engine.prompts.answers.generated", repeat)
    made = at_work(tmp_path, selecting(robustness=[], control=False, demonstrations=[0]), None, free())
    made.step = 0
    summary = select.run(made, selecting(robustness=[], control=False, demonstrations=[0]))
    winner = finals.kept.read(made.run.artifacts / summary["prompts"]).prompt
    assert winner.instruction == "Repeat it."
    assert summary["chrf"] > summary["baseline_chrf"] + 0.4


@pytest.mark.parametrize("method", ["grips", "capo", "rewrite", "shorten"])
def test_prompts_are_adjusted_by_their_answers(method: str, tmp_path: Path) -> None:
    step = options(method=method, budget=60, rows=8, finalists=2)
    made = at_work(tmp_path, step, None, free(dev=24, test=8))
    made.step = 0
    summary = adjust.run(made, step)
    assert 0 <= summary["chrf"] <= 1


def test_what_needs_choices_is_refused_before_the_work(tmp_path: Path) -> None:
    step = options(method="gcg")
    made = at_work(tmp_path, step, None, free())
    made.step = 0
    with pytest.raises(UsageError, match="gcg follows the loss of choices, and the task has free answers"):
        early.check(made, step)
    with pytest.raises(UsageError, match="calibration needs a task with fixed labels"):
        early.check(made, selecting(calibration="batch"))

"""Lessons of free answers: what is to be said, its loss against transformers, and a training that learns it."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.chatting import TURNS, talking
from fixtures.models import DEVICES, subject
from fixtures.prompting import TEMPLATE, at_work, toy

from engine.data.rows import Row
from engine.data.tasks import Generation, Task
from engine.prompts import early, embed, kept
from engine.prompts import soft as soft_prompts
from engine.prompts.forced import AnswerLessons, ending, forced, right
from engine.prompts.forward import Sequence_, ends
from engine.prompts.generator import fitting
from engine.prompts.lessons import ChoiceLessons, Teacher
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft, beginning
from engine.prompts.template import Prompt
from engine.subject import Subject

TEXT = Prompt("plain", TEMPLATE)
HOW = Generation(6, "\n")
LONG = " and the name of it is bound to the module"


def rows(count: int = 7) -> list[Row]:
    """Answers of one to many tokens, the last one longer than may be written; a second right answer that is not learned."""
    answers = (" yes", " no name", " the module's name", LONG)
    return [replace(row, choices=(answers[i % 4], " so"), gold=0) for i, row in enumerate(toy().train[:count])]


def learned(
    model: Subject, teacher: Subject | None = None, alpha: float = 0.5, temperature: float = 2.0
) -> AnswerLessons:
    taught = Teacher(Scorer(teacher), TEXT) if teacher else None
    return AnswerLessons.of(Scorer(model), HOW, TEXT, rows(), 5, taught, alpha, temperature, torch.float32)


def start(model: Subject) -> Soft:
    return beginning("soft", model, [40, 50, 60, 70, 80])


def predicted(model: Subject, made: AnswerLessons, row: int, soft: Soft | None = None) -> torch.Tensor:
    """Log-probabilities [N, V] of a row's answer, of the row alone behind the embeddings of the virtual tokens."""
    module: Any = model.module
    ((sequence,),) = [made.sequences[row]]
    ids = torch.tensor([sequence.tokens], device=model.device)
    embedded = module.get_input_embeddings()(ids)
    if soft:
        embedded = torch.cat([soft.weight_NW[None].to(embedded), embedded], 1)
    return module(inputs_embeds=embedded).logits[0, -sequence.positions :].float().log_softmax(-1)


def answer(made: AnswerLessons, row: int) -> list[int]:
    return list(made.sequences[row][0].targets[0][1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("behind", [False, True], ids=["text", "virtual tokens"])
@pytest.mark.parametrize(("name", "changes"), [("llama", {}), ("gpt2", {}), ("gemma3_text", {"sliding_window": 24})])
def test_the_loss_is_the_mean_over_the_answer_of_what_the_model_predicts(
    name: str, changes: Any, behind: bool, device: str
) -> None:
    model = subject(name, device=device, **changes)
    made, soft = learned(model), start(model) if behind else None
    with torch.no_grad():
        wanted = [
            -float(
                predicted(model, made, i, soft).gather(1, torch.tensor(answer(made, i), device=device)[:, None]).mean()
            )
            for i in range(7)
        ]
        assert float(made.loss(soft, [2])) == pytest.approx(wanted[2], abs=1e-4)
        assert float(made.loss(soft, range(7))) == pytest.approx(sum(wanted) / 7, abs=1e-4)
        assert float(made.loss(soft, [6, 3, 0])) == pytest.approx((wanted[6] + wanted[3] + wanted[0]) / 3, abs=1e-4)


def test_a_text_ends_where_the_model_is_to_stop_and_no_answer_is_longer_than_it_may_be() -> None:
    model = subject("llama")
    tokenizer: Any = model.tokenizer
    said = [tokenizer.decode(answer(learned(model), i)) for i in range(4)]
    assert said[0] == " yes\n"
    assert said[1] == " no name\n"
    assert (LONG + "\n").startswith(said[3])
    assert len(answer(learned(model), 3)) == HOW.tokens
    several = replace(rows()[0], choices=(" one\ntwo",))
    assert right(HOW, TEXT, several).choices == (" one\n",)
    assert right(Generation(6, ""), TEXT, several).choices == (" one\ntwo",)


@pytest.mark.parametrize("how", [HOW, Generation(6, "")], ids=["a stop", "none"])
def test_a_turn_of_a_chat_ends_with_the_model_s_end_of_text_and_so_does_an_answer_without_a_stop(
    how: Generation,
) -> None:
    model = talking(TURNS)
    last = ending(model, "off")
    assert set(last) <= ends(model)
    assert len(last) == 1
    chat = replace(TEXT, chat="system")
    (sequence, *_) = forced(Scorer(model), how, chat, rows(), 0)
    tokenizer: Any = model.tokenizer
    ((_, target),) = sequence.targets
    assert target[-1:] == last
    assert tokenizer.decode(target[:-1]).strip() == "yes"
    (plain, *_) = forced(Scorer(model), how, TEXT, rows(), 0)
    assert (plain.targets[0][1][-1:] == last) == (not how.stop)


def test_a_turn_ends_with_the_template_s_own_token_where_the_model_has_several_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = talking(TURNS.replace("<s>", "!"))
    tokenizer: Any = model.tokenizer
    first, last = tokenizer.convert_tokens_to_ids(["<s>", "!"])
    monkeypatch.setattr("engine.prompts.forced.ends", lambda subject: {first, last})
    assert (ending(model, "off"), ending(model, "system")) == ((first,), (last,))
    monkeypatch.setattr("engine.prompts.forced.ends", lambda subject: set())
    assert ending(model, "system") == ()


def test_the_divergence_is_from_the_teacher_s_likely_tokens_and_the_rest_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand for every row, place and token; from itself the model is nowhere."""
    monkeypatch.setattr("engine.prompts.forced.LIKELY", 9)
    model, dense, soft = subject("llama"), subject("llama", seed=1), start(subject("llama"))
    made = learned(model, dense, alpha=1.0)
    total = []
    for i in range(7):
        with torch.no_grad():
            p = (predicted(dense, made, i) / 2).softmax(-1).double()
            q = (predicted(model, made, i, soft) / 2).softmax(-1).double()
        top = p.topk(9, -1).indices
        known, guessed = p.gather(1, top), q.gather(1, top)
        rest, other = 1 - known.sum(1), 1 - guessed.sum(1)
        kl = (known * (known / guessed).log()).sum(1) + rest * (rest / other).log()
        total.append(float(kl.mean()))
    with torch.no_grad():
        assert float(made.loss(soft, range(7))) == pytest.approx(4 * sum(total) / 7, rel=1e-3)
        half = float(replace(made, alpha=0.5).loss(soft, range(7)))
        alone = float(replace(made, teacher=None).loss(soft, range(7)))
        assert half == pytest.approx(0.5 * alone + 2 * sum(total) / 7, rel=1e-3)
        assert float(learned(model, model, alpha=1.0).loss(None, range(7))) == pytest.approx(0, abs=1e-4)


def test_a_teacher_may_read_another_prompt_and_learns_nothing_of_virtual_tokens() -> None:
    """The answers stay those that are learned; where both read the same, so do both teachers."""
    model, dense = subject("llama"), subject("llama", seed=1)
    shown = replace(TEXT, name="shown", demonstrations=tuple(rows(9)[7:]))
    of = partial(AnswerLessons.of, Scorer(model), HOW, TEXT, rows(), 5)
    how = (0.5, 2.0, torch.float32)
    same, other = (of(Teacher(Scorer(dense), prompt), *how).teacher for prompt in (TEXT, shown))
    assert same is not None
    assert other is not None
    behind = AnswerLessons.of(Scorer(dense), HOW, shown, rows(), 0, None, *how)
    for i in range(7):
        (log_NK, ids_NK), plain_NK = astuple(other.view([i])), same.view([i]).log_TK
        with torch.no_grad():
            wanted, ids = (predicted(dense, behind, i) / 2).log_softmax(-1).topk(log_NK.shape[1])
        torch.testing.assert_close(log_NK.float(), wanted, atol=5e-3, rtol=1e-3)
        assert float((ids_NK == ids).float().mean()) > 0.95  # nearly equal ones may change places
        assert log_NK.shape == plain_NK.shape
        assert not torch.allclose(log_NK, plain_NK, atol=1e-2)


def test_the_gradient_is_that_of_finite_differences_and_in_the_virtual_tokens_alone() -> None:
    model = subject("llama")
    made, soft = learned(model, subject("llama", seed=1)), start(model)
    weight = soft.weight_NW.clone().requires_grad_(True)
    with torch.enable_grad():
        made.loss(replace(soft, weight_NW=weight), range(7)).backward()
    assert all(p.grad is None for p in model.module.parameters())
    assert weight.grad is not None
    direction, step = weight.grad / weight.grad.norm(), 1e-2
    with torch.no_grad():
        above, below = (
            float(made.loss(replace(soft, weight_NW=soft.weight_NW + sign * step * direction), range(7)))
            for sign in (1, -1)
        )
    assert float((weight.grad * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=0.01)


def test_the_teacher_is_asked_once_and_about_whole_groups_of_which_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path))
    model, dense, asked = subject("llama"), subject("llama", seed=1), list[int]()
    whole = Scorer.known

    def counted(self: Scorer, sequences: list[Sequence_], *more: Any) -> Any:
        asked.append(len(sequences))
        return whole(self, sequences, *more)

    monkeypatch.setattr(Scorer, "known", counted)
    monkeypatch.setattr("engine.prompts.forced.TOGETHER", 3)
    first = learned(model, dense).teacher
    assert first is not None
    assert asked == [3, 3, 1]
    before = [first.view([i]) for i in range(7)]
    first.file(4).unlink()
    again = learned(model, dense).teacher
    assert again is not None
    assert asked == [3, 3, 1, 3], "so that its numbers are those of an undisturbed one"
    for i, answer in enumerate(before):
        assert torch.equal(again.view([i]).log_TK, answer.log_TK)
    learned(model, dense, temperature=1.0)
    learned(model, subject("llama", seed=2))
    assert asked == [3, 3, 1, 3, 3, 3, 1, 3, 3, 1]


@pytest.mark.parametrize("words", [3, 120, 300])
def test_only_what_may_be_written_of_an_answer_takes_room(words: int) -> None:
    """The question is read as far as it is when it is asked, however long the right answer is."""
    long = replace(rows()[0], text="a name " * 300, fields={"text": "a name " * 300}, choices=(" the name" * words,))
    scorer = Scorer(subject("llama"))
    (sequence,) = forced(scorer, HOW, TEXT, [long], 20)
    (asked,) = fitting(
        Scorer(scorer.subject), HOW, replace(TEXT, soft=beginning("soft", scorer.subject, [5] * 20)), [long]
    )
    assert sequence.tokens[: len(asked.tokens)] == asked.tokens
    assert len(asked.tokens) + HOW.tokens - 1 >= len(sequence.tokens) > 300
    assert scorer.cut == {"plain": {long.digest}}


def test_one_choice_of_a_token_is_a_free_answer_of_one() -> None:
    """What both kinds of lessons say of the same tokens."""
    model = subject("llama")
    single = [replace(row, choices=(" yes",), gold=0) for row in rows()]
    free = AnswerLessons.of(Scorer(model), Generation(1, ""), TEXT, single, 5, None, 0.5, 1.0, torch.float32)
    choices = ChoiceLessons.of(Scorer(model), TEXT, single, 5, None, 0.5, 1.0, torch.float32)
    with torch.no_grad():
        scores = choices.scores(start(model), range(7))
        assert float(free.loss(start(model), range(7))) == pytest.approx(-float(scores.mean()), abs=1e-5)


# The step


def task(**changes: Any) -> Task:
    """The right answer is always the same two words."""
    made = toy(**changes)
    answered = {
        split: [replace(row, choices=(" the name",), gold=0) for row in getattr(made, split)]
        for split in ("train", "dev", "test")
    }
    return replace(made, labels={}, metric="exact_match", generation=Generation(4, "\n"), **answered)


def test_virtual_tokens_learn_what_to_answer_and_where_to_end(tmp_path: Path) -> None:
    step = EmbedPromptOptions.model_validate({
        "use": "embed_prompt", "task": "toy", "form": "prefix", "tokens": 8, "epochs": 12, "patience": 12, "batch": 4,
        "rows": 8, "learning_rate": 0.3, "alpha": 0.1, "budget": 400,
    })  # fmt: skip
    made = at_work(tmp_path, step, None, task(train=24, dev=24, test=16))
    made.step, made.stage = 0, "pruned"
    made.run.checkpoints.mkdir(exist_ok=True)
    early.check(made, step)
    summary = embed.run(made, step)
    assert summary["kept"]
    assert summary["exact_match"] > 0.9
    assert summary["baseline_exact_match"] == 0.0
    folder = made.run.artifacts / summary["prompts"]
    assert kept.read(folder).virtual == 8
    assert soft_prompts.load(folder).tokens == 8

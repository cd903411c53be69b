"""Virtual tokens: those of a real text answer as the text does, in every form; they are kept as PEFT keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject

from engine.data.rows import Row
from engine.errors import Unavailable, UsageError
from engine.prompts import soft as soft_prompts
from engine.prompts.cache import ScoreCache
from engine.prompts.options import Form
from engine.prompts.scorer import Scorer
from engine.prompts.soft import Soft, beginning
from engine.prompts.template import Prompt
from engine.subject import Subject

ARCHITECTURES = ["llama", "qwen2", "gpt2", "opt", "gpt_neox", "gemma", "gemma3_text", "mixtral"]
FORMS: list[Form] = ["soft", "prefix"]
WORDS = "Answer yes or no, and mind what is said."
REST = "\n\nReview: {text}\nSentiment:"
SHORT = " {text} ="
ONE_TOKEN, SEVERAL = (" no", " yes"), (" a very long choice", " no", " yes indeed")


def rows(choices: tuple[str, ...] = ONE_TOKEN) -> list[Row]:
    texts = ["the class", "a name is bound to it in some module", "objects", "no value was given for which the name is"]
    return [Row(text, {"text": text}, choices, 0) for text in texts]


def virtual(model: Subject, form: Form, words: str = WORDS) -> Soft:
    return beginning(form, model, model.tokenizer(words).input_ids)


def random(model: Subject, form: Form, tokens: int = 5, seed: int = 0) -> Soft:
    """Of the right sizes, and like no text."""
    begun = beginning(form, model, [7] * tokens)
    noise = torch.randn(begun.weight_NW.shape, generator=torch.Generator().manual_seed(seed))
    return Soft(form, begun.weight_NW + 0.3 * noise, begun.layers, begun.heads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one-token", "several-tokens"])
@pytest.mark.parametrize("rest", [REST, SHORT], ids=["shared text", "hardly any shared text"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_texts_own_numbers_answer_as_the_text(
    name: str, form: Form, rest: str, choices: tuple[str, ...], device: str
) -> None:
    model = subject(name)
    model.module.to(device)
    scorer = Scorer(model)
    whole = scorer.score(Prompt("text", WORDS + rest), rows(choices))
    found = scorer.score(Prompt("virtual", rest, soft=virtual(model, form)), rows(choices))
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_ahead_of_a_text_longer_than_the_sliding_window() -> None:
    model = subject("gemma3_text", sliding_window=16)
    scorer, begun = Scorer(model), beginning("soft", model, model.tokenizer(WORDS * 2).input_ids)
    whole = scorer.score(Prompt("text", WORDS * 2 + REST), rows())
    torch.testing.assert_close(scorer.score(Prompt("v", REST, soft=begun), rows()), whole, atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="one shape"):
        beginning("prefix", model, model.tokenizer(WORDS * 2).input_ids)


def test_other_virtual_tokens_are_another_entry_of_the_cache() -> None:
    model = subject("llama", seed=3)
    scorer = Scorer(model, ScoreCache())
    prompts = [Prompt("p", REST), *(Prompt("p", REST, soft=random(model, "soft", seed=s)) for s in (1, 2))]
    first, second, third = (scorer.score(prompt, rows()) for prompt in prompts)
    assert scorer.computed == 12
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    again = Scorer(model, ScoreCache())
    assert torch.equal(again.score(prompts[1], rows()), second)
    assert again.computed == 0


def test_two_are_the_same_when_their_numbers_are() -> None:
    model = subject("llama")
    one, other = random(model, "soft"), random(model, "soft", seed=1)
    assert one == random(model, "soft")
    assert one != other
    assert not Prompt("a", REST, soft=one).same(Prompt("a", REST))
    assert Prompt("a", REST, soft=one).same(Prompt("b", REST, soft=random(model, "soft")))
    assert Prompt("a", REST, soft=one).shown() == "<5 soft tokens>" + REST
    assert "soft" not in Prompt("a", REST, soft=one).as_json()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_peft_loads_it_and_answers_the_same(name: str, form: Form, tmp_path: Path) -> None:
    import peft  # takes seconds

    model = subject(name)
    learned = random(model, form)
    learned.save(tmp_path, model)
    items = rows()
    mine = Scorer(model).score(Prompt("v", REST, soft=learned), items)
    theirs: Any = peft.PeftModel.from_pretrained(subject(name).module, tmp_path).eval()
    for index, row in enumerate(items):
        ids = torch.tensor([model.tokenizer(Prompt("p", REST).fill(row)).input_ids])
        with torch.no_grad():
            logs = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].double().log_softmax(-1)
        choices = torch.tensor([model.tokenizer(choice).input_ids[0] for choice in row.choices])
        torch.testing.assert_close(mine[index], logs[choices], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_what_was_saved_loads_as_it_was(form: Form, tmp_path: Path) -> None:
    model = subject("qwen2")
    learned = random(model, form)
    learned.save(tmp_path, model)
    assert soft_prompts.load(tmp_path) == learned
    config = json.loads((tmp_path / soft_prompts.CONFIG).read_text())
    assert config["base_model_name_or_path"] is None  # not the dense model that the run began with


def test_what_is_no_soft_prompt_is_none_or_refused(tmp_path: Path) -> None:
    assert soft_prompts.load(tmp_path) is None
    (tmp_path / soft_prompts.CONFIG).write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(Unavailable, match="not a soft prompt: another kind of adapter"):
        soft_prompts.load(tmp_path)
    (tmp_path / soft_prompts.CONFIG).write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
    with pytest.raises(Unavailable, match="not a soft prompt"):
        soft_prompts.load(tmp_path)


def test_it_fits_models_of_its_sizes_only() -> None:
    model, wide = subject("llama"), subject("llama", hidden_size=64)
    deep = subject("llama", num_hidden_layers=3)
    assert random(model, "soft").fits(deep)
    assert not random(model, "soft").fits(wide)
    assert not random(model, "prefix").fits(deep)
    assert random(model, "prefix").fits(subject("llama", seed=1))


def test_a_layer_without_keys_and_values_has_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    model = subject("llama")
    layers = [SimpleNamespace(keys=torch.zeros(1, 2, 2, 8), values=torch.zeros(1, 2, 2, 8)), SimpleNamespace(states=0)]
    answer = SimpleNamespace(past_key_values=SimpleNamespace(layers=layers))
    monkeypatch.setattr(model.module, "forward", lambda *_, **__: answer)
    with pytest.raises(UsageError, match="one shape"):
        beginning("prefix", model, [5, 6])


def test_keys_and_values_of_different_sizes_have_no_prefix() -> None:
    with pytest.raises(UsageError, match="one shape"):
        beginning("prefix", subject("deepseek_v3"), [5, 6])

"""A chat is scored as its rendered text is, token by token; without a template that takes turns it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.chatting import DATED, DEAF, MUTE, NO_SYSTEM, OPEN, TURNS, talking
from fixtures.models import tokenizer
from fixtures.prompting import INSTRUCTION, TEMPLATE, at_work, options, toy
from tokenizers.processors import TemplateProcessing

from engine.data.rows import Row
from engine.errors import UsageError
from engine.prompts import early, kept, needs, pool, rendering, verbalizers
from engine.prompts.contest import length
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt


def prompt(chat: str) -> Prompt:
    return Prompt("p", TEMPLATE, "Say yes or no.", tuple(toy().train[:2]), chat=chat)


@pytest.mark.parametrize(
    ("wish", "template", "found"),
    [("off", TURNS, "off"), ("on", TURNS, "system"), ("auto", TURNS, "system"), ("auto", None, "off"),
     ("on", NO_SYSTEM, "user"), ("on", DEAF, "user")],
)  # fmt: skip
def test_where_the_instruction_goes(wish: str, template: str | None, found: str) -> None:
    task = replace(toy(), chat=wish)
    assert rendering.placed(task, talking(template).tokenizer) == found
    assert pool.plain(replace(task, chat=found)).chat == found


@pytest.mark.parametrize(("template", "said"), [(None, "has no chat template"), (MUTE, "does not take demonstrations")])
def test_a_chat_that_cannot_be(template: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        rendering.placed(replace(toy(), chat="on"), talking(template).tokenizer)
    assert caught.value.hint == 'chat = "off"'


@pytest.mark.parametrize(("chat", "template"), [("system", TURNS), ("user", NO_SYSTEM)])
def test_the_turns(chat: str, template: str) -> None:
    row, (one, two) = toy().dev[0], toy().train[:2]
    text = rendering.text(prompt(chat), row, talking(template).tokenizer)
    ask = "Statement: {}\nAnswer:".format
    head = "[system]Say yes or no.<s>[user]" if chat == "system" else "[user]Say yes or no.\n\n"
    assert text == (
        f"{head}{ask(one.text)}<s>[assistant]no<s>[user]{ask(two.text)}<s>[assistant]yes<s>[user]{ask(row.text)}<s>[bot]\n"
    )
    assert rendering.text(prompt("off"), row, None) == prompt("off").fill(row)


def test_no_day_is_another() -> None:
    tokenizer = talking(DATED).tokenizer
    assert "26 Jul 2024" in rendering.text(prompt("system"), toy().dev[0], tokenizer)


@pytest.mark.parametrize("template", [TURNS, OPEN], ids=["new line", "open"])
@pytest.mark.parametrize("choices", [(" no", " yes"), (" a very long choice", " no")], ids=["one token", "several"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_is_scored_as_its_rendered_text(name: str, choices: tuple[str, str], template: str) -> None:
    """Without a token in front that the template did not write, and no blank behind a new line."""
    model = talking(template, name)
    rows = [replace(row, choices=choices) for row in toy().dev[:6]]
    found = Scorer(model).score(prompt("system"), rows)
    wanted = torch.empty_like(found)
    for i, row in enumerate(rows):
        text = rendering.text(prompt("system"), row, model.tokenizer)
        for j, choice in enumerate(choices):
            word = choice.strip() if template == TURNS else choice
            before, ids = (model.tokenizer(t, add_special_tokens=False).input_ids for t in (text, text + word))
            assert ids[: len(before)] == before
            with torch.no_grad():
                logs = model.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            wanted[i, j] = sum(float(logs[t - 1, ids[t]]) for t in range(len(before), len(ids)))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_words_that_only_a_blank_told_apart() -> None:
    labels = {"0": [" no", "no"], "1": " yes"}
    tokenizer = talking(TURNS).tokenizer
    list(verbalizers.check(replace(toy(), labels=labels), tokenizer))
    with pytest.raises(UsageError, match="' no' of label '0' and 'no' of label '0' are the same tokens"):
        list(verbalizers.check(replace(toy(), labels=labels, chat="system"), tokenizer))


def test_a_chats_length_is_that_of_its_turns(tmp_path: Path) -> None:
    made = at_work(tmp_path, options(), task=replace(toy(), chat="system"))
    made.subject = talking(TURNS)
    tokenizer = made.subject.tokenizer
    asked = replace(toy().train[0], fields={"text": "{text}"})
    for chat in ("system", "off"):
        (ids,) = rendering.tokens([rendering.text(prompt(chat), asked, tokenizer)], prompt(chat), tokenizer)
        assert length(made, prompt(chat)) == len(ids)


def test_a_kept_chat_is_messages_for_everybody(tmp_path: Path) -> None:
    made = kept.Kept(prompt("user"), "toy", toy().labels, "none", [0.0, 0.0])
    kept.write(tmp_path, made)
    assert kept.read(tmp_path) == made
    assert (tmp_path / "winner.txt").read_text().startswith("<user>\nSay yes or no.\n\nStatement: ")
    row = Row("", {"text": "it {is}"}, (), 0)
    assert prompt("user").messages(row)[-1] == {"role": "user", "content": "Statement: it {is}\nAnswer:"}
    assert not prompt("user").same(prompt("off"))


def test_what_leads_a_plain_text_is_not_in_a_chat(tmp_path: Path) -> None:
    made = at_work(tmp_path, options(method="gcg", instruction=INSTRUCTION), task=replace(toy(), chat="system"))
    made.step = 0
    with pytest.raises(UsageError, match="gcg changes an instruction that leads a plain text"):
        early.check(made, options(method="gcg", instruction=INSTRUCTION))
    needs.check_method(replace(toy(), chat="system"), options(method="grips"), "step.0")


@pytest.mark.parametrize("ends", ["$A <s>", "<s> $A <s>", "<s> $A", "$A"])
def test_a_text_that_is_gone_on_from_has_no_end(ends: str) -> None:
    words = tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(single=ends, special_tokens=[("<s>", 0)])
    texts = ["a good film", "some"]
    plain = words(texts, add_special_tokens=False).input_ids
    assert rendering.opened(texts, words) == [[0] * ends.startswith("<s>") + ids for ids in plain]

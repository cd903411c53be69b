"""A prompt as the text that a model reads: as it stands, or as the chat turns that the tokenizer's template makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from engine.data.rows import Row
from engine.data.tasks import Task
from engine.errors import UsageError
from engine.prompts.template import Prompt

MARK = "instruction"
FIXED = {"date_string": "26 Jul 2024", "enable_thinking": False}
"""what some templates would fill in by themselves: today's date, which makes every day's figures other ones, and room for
thoughts ahead of the answer
"""


def placed(task: Task, tokenizer: Any) -> str:
    """Where the task's instructions go: "off" for a plain text, "system" or "user" for that message of a chat.

    Raises UsageError for a chat without a template, or with one that does not take turns.
    """
    has = bool(getattr(tokenizer, "chat_template", None))
    if task.chat == "off" or (task.chat == "auto" and not has):
        return "off"
    if not has:
        raise UsageError("the model's tokenizer has no chat template", where=f"task {task.name}", hint='chat = "off"')
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    try:
        rendered(turns, tokenizer)
    except TemplateError as error:
        message = f"the tokenizer's chat template does not take demonstrations as turns: {error}"
        raise UsageError(message, where=f"task {task.name}", hint='chat = "off"') from error
    try:
        told = rendered([{"role": "system", "content": MARK}, *turns], tokenizer)
    except TemplateError:
        return "user"
    return "system" if MARK in told else "user"


def rendered(messages: Sequence[dict[str, str]], tokenizer: Any) -> str:
    """The messages, and what opens the model's answer."""
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **FIXED)
    return text


def closing(tokenizer: Any) -> list[int]:
    """The tokens that the template puts behind an answer."""
    turns = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    shown: str = tokenizer.apply_chat_template(turns, tokenize=False, **FIXED)
    ids: list[int] = tokenizer(shown.rpartition(MARK)[2], add_special_tokens=False).input_ids
    return ids


def text(prompt: Prompt, row: Row, tokenizer: Any) -> str:
    """What the model has read when it is to answer."""
    return prompt.fill(row) if prompt.chat == "off" else rendered(prompt.messages(row), tokenizer)


def length(prompt: Prompt, tokenizer: Any) -> int:
    """Tokens of a prompt, its fields unfilled; of a chat with all that the tokenizer's template puts around them."""
    shown = prompt.text() if prompt.chat == "off" else rendered(prompt.messages(), tokenizer)
    (ids,) = tokens([shown], prompt, tokenizer)
    return len(ids)


def following(text: str, word: str, chat: str) -> str:
    """The text with a word behind it: without its leading blank where a chat's template ends in a blank or a new line."""
    return text + (word.lstrip() if chat != "off" and text[-1:].isspace() else word)


def tokens(texts: Sequence[str], prompt: Prompt, tokenizer: Any) -> list[list[int]]:
    """Token ids of each text, which is to be gone on from; a chat template has written the special ones itself."""
    if prompt.chat != "off":
        made: list[list[int]] = tokenizer(list(texts), add_special_tokens=False).input_ids
        return made
    return opened(texts, tokenizer)


def opened(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of each text behind what the tokenizer puts ahead of one, but without what it puts at the end."""
    ids: list[list[int]] = tokenizer(list(texts)).input_ids
    (whole,), (bare,) = tokenizer(["a"]).input_ids, tokenizer(["a"], add_special_tokens=False).input_ids
    ends = (i for i in range(len(bare), len(whole) + 1) if bare and whole[i - len(bare) : i] == bare)
    closing = len(whole) - next(ends, len(whole))
    return [one[: len(one) - closing] for one in ids]

"""A resident worker: keeps models in memory and lets them go on from a text, token by token, as `python -P -m engine.serve`.

A request is a JSON object a line on stdin, {"text", "tokens", "models": [source, ...]}; the answers are JSON lines on stdout:
{"model", "loading": true}, {"model", "piece"}, {"model", "done": true, "tokens", "seconds"}, {"error", "where", "hint"} and,
when all is said, {"end": true}. It ends with its input. Several models answer in turns, a token each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from engine import model
from engine.errors import EngineError
from engine.profile import ModelOptions
from engine.prompts import rendering
from engine.prompts.forward import ends, first_token
from engine.subject import Subject

Say = Callable[[dict[str, Any]], None]


class Server:
    """Loads a model when it is first asked; `say` takes every line of the answer."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._models: dict[str, Subject] = {}

    def answer(self, request: dict[str, Any]) -> None:
        """Answers one request, with an error where it cannot."""
        try:
            going = {source: self._begun(source, request) for source in dict.fromkeys(request["models"])}
            while going:
                for source, pieces in list(going.items()):
                    if (line := next(pieces, None)) is None:
                        del going[source]
                    else:
                        self._say({"model": source, **line})
        except EngineError as error:
            self._say({"error": error.message, "where": error.where, "hint": error.hint})
        except (MemoryError, RuntimeError, OSError) as error:
            self._say({"error": str(error) or type(error).__name__, "where": None, "hint": None})
        self._say({"end": True})

    def _begun(self, source: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if source not in self._models:
            self._say({"model": source, "loading": True})
            self._models[source] = model.load(model.resolve(ModelOptions(source=source)))
        return answering(self._models[source], request["text"], request["tokens"])


def answering(subject: Subject, text: str, tokens: int) -> Iterator[dict[str, Any]]:
    """The pieces of a greedy answer as they come, then what it took; a model with a chat template is asked as in a chat."""
    tokenizer: Any = subject.tokenizer
    if tokenizer is None:
        raise EngineError("this model writes no text", where=subject.source)
    began, shown = time.monotonic(), ""
    ids: list[int] = []
    for token in _greedy(subject, _encoded(tokenizer, text), tokens):
        ids.append(token)
        read = tokenizer.decode(ids, skip_special_tokens=True)
        if read.endswith("\N{REPLACEMENT CHARACTER}"):  # the next token brings the rest of the character
            read = shown
        yield {"piece": read[len(shown) :]}
        shown = read
    yield {"done": True, "tokens": len(ids), "seconds": round(time.monotonic() - began, 3)}


def _encoded(tokenizer: Any, text: str) -> list[int]:
    """The text's tokens, at least one."""
    chat = bool(tokenizer.chat_template)
    shown = rendering.rendered([{"role": "user", "content": text}], tokenizer) if chat else text
    return list(tokenizer(shown, add_special_tokens=not chat).input_ids) or [first_token(tokenizer)]


def _greedy(subject: Subject, prompt: Sequence[int], most: int) -> Iterator[int]:
    """The likeliest next tokens, one by one, up to `most` or to the model's own end. Shapes: T tokens."""
    module: Any = subject.module
    last, past = ends(subject), None
    ids_1T = torch.tensor([prompt], device=subject.device)
    for _ in range(most):
        with torch.inference_mode():
            out = module(ids_1T, past_key_values=past, use_cache=True, logits_to_keep=1)
        ids_1T, past = out.logits[:, -1:].argmax(-1), out.past_key_values
        token = int(ids_1T)
        if token in last:
            return
        yield token


def main() -> int:
    """Answers until its input ends."""

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line, ensure_ascii=False), flush=True)

    server = Server(say)
    for line in sys.stdin:
        server.answer(json.loads(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A resident worker: keeps models in memory and lets them go on from a text, token by token, as `python -P -m engine.serve`.

A request is a JSON object a line on stdin, {"text", "tokens", "models": [source, ...], "device", "dtype"}, the last two "auto"
unless said; the answers are JSON lines on stdout: {"model", "loading": true}, {"model", "piece"}, {"model", "done": true,
"tokens", "seconds"}, {"error", "where", "hint"} and, when all is said, {"end": true}. It ends with its input. Several models
answer in turns, a token each.

With {"profile", "step", "text", "original", "rows", "models"} two prompts are scored instead, see `engine.prompts.tried`; each
line of that carries its model.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from engine import model, profile
from engine.errors import EngineError, Unavailable, UsageError
from engine.profile import ModelOptions
from engine.prompts import rendering
from engine.prompts.forward import ends, first_token
from engine.subject import Subject

Say = Callable[[dict[str, Any]], None]
KEPT = 2
"""models in memory: a run's dense and its compressed one"""
STREAM = "stream"


class Server:
    """Loads a model when it is first asked and lets the oldest go; `say` takes every line of the answer."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._models: dict[ModelOptions, Subject] = {}

    def answer(self, request: dict[str, Any]) -> None:
        """Answers one request, with an error where it cannot."""
        try:
            place = {key: request[key] for key in ("device", "dtype") if key in request}
            asked = [ModelOptions(source=source, **place) for source in dict.fromkeys(request["models"])]
            model.go_offline([options.source for options in asked], [])
            going = {}
            for options in asked:
                subject = self._loaded(options, asked)
                going[options.source] = _asked(subject, request)
            while going:
                for source, pieces in list(going.items()):
                    if (line := next(pieces, None)) is None:
                        del going[source]
                    else:
                        self._say({"model": source, **line})
        except EngineError as error:
            self._say({"error": error.message, "where": error.where, "hint": error.hint})
        except Exception as error:  # a library's, a template's: the models stay for the next question
            traceback.print_exc()
            self._say({"error": f"{type(error).__name__}: {error}", "where": None, "hint": None})
        self._say({"end": True})

    def _loaded(self, options: ModelOptions, asked: Sequence[ModelOptions]) -> Subject:
        """The model in memory; those that are not asked make room for it, the oldest first. Raises EngineError."""
        if options not in self._models:
            self._say({"model": options.source, "loading": True})
            spare = [known for known in self._models if known not in asked]
            while spare and (len(self._models) >= KEPT or model.resolve(options).memory == STREAM):
                del self._models[spare.pop(0)]
                gc.collect()
            found = model.resolve(options)
            if found.memory == STREAM:
                hint = "models answer from memory only: choose a smaller one"
                raise Unavailable("not enough memory for the model", where=options.source, hint=hint)
            self._models[options] = model.load(found)
        return self._models[options]


def _asked(subject: Subject, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of one model's answer."""
    if "profile" not in request:
        return answering(subject, request["text"], request["tokens"])
    from engine.prompts.tried import trying

    found = profile.load(request["profile"])
    return trying(subject, found, request["step"], request["text"], request["original"], request["rows"])


def answering(subject: Subject, text: str, tokens: int) -> Iterator[dict[str, Any]]:
    """The pieces of a greedy answer as they come, then what it took; a model with a chat template is asked as in a chat."""
    tokenizer: Any = subject.tokenizer
    if tokenizer is None:
        raise EngineError("this model writes no text", where=subject.source)
    began, shown = time.monotonic(), ""
    ids: list[int] = []
    prompt = _encoded(tokenizer, text)
    for token in _greedy(subject, prompt, min(tokens, _room(subject, prompt))):
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


def _room(subject: Subject, prompt: Sequence[int]) -> int:
    """How many tokens may follow before the model's positions end. Raises UsageError where the prompt has taken them all."""
    module: Any = subject.module
    positions = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return sys.maxsize
    if len(prompt) >= positions:
        message = f"the text has {len(prompt)} tokens, and the model reads {positions}"
        raise UsageError(message, where=subject.source, hint="ask something shorter")
    return int(positions) - len(prompt)


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
    """Answers until its input ends; what a library prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=answers, flush=True)

    server = Server(say)
    for line in sys.stdin:
        server.answer(json.loads(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Text that the local model writes when asked: paraphrases, instructions, corrections. Kept on disk like scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from engine.prompts.cache import ScoreCache
from engine.prompts.forward import ends
from engine.prompts.rendering import opened, rendered
from engine.prompts.requests import Answer
from engine.prompts.scorer import conditions
from engine.subject import Subject
from engine.weights import weights_hash

BATCH = 16  # requests that are answered together
TEMPERATURE, TOP_P = 0.8, 0.95
VERSION = "transformers_version"


@dataclass
class Writer:
    """Answers requests by sampling, the same ones for the same seed; `check()` is called between batches and may raise."""

    subject: Subject
    cache: ScoreCache
    seed: int
    check: Callable[[], None] = lambda: None

    @cached_property
    def weights(self) -> str:
        """Who writes, and how by the model's own account; known once something is to be written."""
        module: Any = self.subject.module
        how = sorted((key, value) for key, value in module.generation_config.to_dict().items() if key != VERSION)
        return f"{conditions(self.subject, weights_hash(module))} {how}"

    def write(self, requests: Sequence[str], tokens: int) -> list[Answer]:
        """One answer a request, at most `tokens` long; a request that is repeated is answered anew."""
        out: list[Answer] = []
        batches = [list(requests[begin : begin + BATCH]) for begin in range(0, len(requests), BATCH)]
        for number, batch in enumerate(batches):
            self.check()
            out += self._batch(batch, tokens, batches[:number].count(batch))
        return out

    def length(self, text: str) -> int:
        """Tokens of a text by itself."""
        tokenizer: Any = self.subject.tokenizer
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    def _batch(self, requests: list[str], tokens: int, before: int) -> list[Answer]:
        """A batch is asked and kept as a whole, so that its answers do not depend on what was known of it; `before`: how often
        the same was asked.
        """
        prompts = [self._prompt(request) for request in requests]
        again = (before,) if before else ()
        about = (self.weights, self.seed, tokens, TEMPERATURE, prompts, *again)
        keys = [digest((about, i)).hex() for i in range(len(prompts))]
        known = self.cache.get(keys)
        if len(known) < len(keys):
            known = dict(zip(keys, self._generate(prompts, tokens, again), strict=True))
            self.cache.put(known)
        return [self._answer([int(i) for i in known[key]]) for key in keys]

    def _answer(self, ids: list[int]) -> Answer:
        tokenizer: Any = self.subject.tokenizer
        text: str = tokenizer.decode(ids, skip_special_tokens=True)
        return Answer(text.strip(), ended=not ends(self.subject).isdisjoint(ids))

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], tokens: int, again: tuple[int, ...] = ()) -> list[list[float]]:
        """Every batch has a random stream of its own."""
        tokenizer: Any = self.subject.tokenizer
        model: Any = self.subject.module
        length = max(len(ids) for ids in prompts)
        pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        ids = torch.tensor([[pad] * (length - len(p)) + p for p in prompts], device=self.subject.device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self.subject.device)
        sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P}
        with torch.random.fork_rng(devices=[self.subject.device] if self.subject.device.type == "cuda" else []):
            torch.manual_seed(int.from_bytes(digest((self.seed, prompts, *again))[:7]))
            out = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, pad_token_id=pad, **sampling)
        return [[float(i) for i in row] for row in out[:, length:].tolist()]

    def _prompt(self, request: str) -> list[int]:
        """The request as the model's chat template has it, or as it is where there is none."""
        tokenizer: Any = self.subject.tokenizer
        text = request
        if getattr(tokenizer, "chat_template", None):
            turns = [{"role": "user", "content": request}]
            text = rendered(turns, tokenizer)
            return list(tokenizer(text, add_special_tokens=False).input_ids)
        return opened([text], tokenizer)[0]


def digest(about: object) -> bytes:
    return hashlib.blake2b(repr(about).encode(), digest_size=16).digest()

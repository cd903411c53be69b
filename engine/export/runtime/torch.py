"""Runs artifacts that are language models in torch once loaded: by transformers, or the loader beside the weights. Other
modules need their code, which another process does not have.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from engine.export.format import ExportFormat
from engine.export.runtime.spec import Spec
from engine.profile import ModelOptions
from engine.registry import FORMATS
from engine.subject import Subject


class Runner:
    def __init__(self, subject: Subject) -> None:
        self.module: Any = subject.module
        self.device = subject.device

    def logits(self, ids: list[int]) -> Any:
        with torch.inference_mode():
            return self.module(torch.tensor([ids], device=self.device), use_cache=False).logits[0].float().cpu().numpy()

    def generate(self, ids: list[int], count: int) -> tuple[list[int], float, float]:
        given, tokens = torch.tensor([ids], device=self.device), []
        began = first = time.perf_counter()
        with torch.inference_mode():
            out = self.module(given, use_cache=True, logits_to_keep=1)
            for index in range(count):
                tokens.append(int(out.logits[0, -1].argmax()))
                if index == 0:
                    first = time.perf_counter()
                if index < count - 1:
                    last = torch.tensor([[tokens[-1]]], device=self.device)
                    out = self.module(last, past_key_values=out.past_key_values, use_cache=True)
        return tokens, first - began, time.perf_counter() - first


def load(spec: Spec) -> Runner:
    torch.set_num_threads(spec.threads)
    form: ExportFormat = FORMATS.load(spec.form).FORMAT
    assert form.read is not None
    about = {"source": spec.folder, "device": spec.device, "dtype": spec.dtype, "memory": "resident"}
    options = ModelOptions.model_validate(about)
    return Runner(form.read(options, Path(spec.folder)))

"""Runs ONNX artifacts: logits by onnxruntime, generation by onnxruntime-genai."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from engine.export.runtime.spec import Spec


class Runner:
    """onnxruntime's session is made when it is first needed, so that speed and memory are those of one of the two."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self._session = spec, None
        settings = Path(spec.folder) / "genai_config.json"
        if settings.is_file():
            self.decoder: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8"))["model"]["decoder"]
            import onnxruntime_genai as genai  # of which other modules need nothing

            config = genai.Config(spec.folder)
            session = {"intra_op_num_threads": spec.threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self.model = genai.Model(config)
        else:
            self.session()

    def session(self) -> Any:
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.spec.threads
            file = str(Path(self.spec.folder) / "model.onnx")
            self._session = onnxruntime.InferenceSession(file, options, providers=onnxruntime.get_available_providers())
        return self._session

    def logits(self, ids: list[int]) -> Any:
        given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        nothing = np.zeros((1, self.decoder["num_key_value_heads"], 0, self.decoder["head_size"]), dtype=np.float32)
        for wanted in self.session().get_inputs():
            if wanted.name.startswith("past_key_values"):
                given[wanted.name] = nothing
            elif wanted.name == "position_ids":
                given[wanted.name] = np.arange(len(ids))[None]
        return self.session().run(["logits"], given)[0][0]

    def generate(self, ids: list[int], count: int) -> tuple[list[int], float, float]:
        generator = self._generator(len(ids) + count, len(ids) + count)
        began = time.perf_counter()
        generator.append_tokens(np.array(ids, dtype=np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(count - 1):
            generator.generate_next_token()
        ended = time.perf_counter()
        return [int(token) for token in generator.get_sequence(0)[len(ids) :]], first - began, ended - first

    def write(self, ids: list[int], count: int, ends: set[int]) -> list[int]:
        generator, out = self._generator(0, len(ids) + count), list[int]()
        generator.append_tokens(np.array(ids, dtype=np.int32))
        while len(out) < count and not generator.is_done() and not ends.intersection(out[-1:]):
            generator.generate_next_token()
            out = [int(token) for token in generator.get_sequence(0)[len(ids) :]]
        return out

    def _generator(self, least: int, most: int) -> Any:
        """Decodes greedily whatever the file's settings say, to lengths that count what it goes on from."""
        import onnxruntime_genai as genai

        parameters = genai.GeneratorParams(self.model)
        parameters.set_search_options(
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            min_length=least,
            max_length=most,
        )
        return genai.Generator(self.model, parameters)

    def answers(self, rows: Any) -> Any:
        given = self.session().get_inputs()[0]
        return self.session().run(None, {given.name: rows.astype(np.float32)})[0]


def load(spec: Spec) -> Runner:
    return Runner(spec)

"""The resident worker seen from the front: a child process that keeps models in memory and answers line by line.

It is started with the first question and ends with this process, or when `close` is called. Reading blocks: call from a thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli

from engine import crashes, files
from engine.errors import EngineError, UsageError
from engine.runs import Run
from engine.state import RunState

Said = dict[str, Any]
AUTO = {"device": "auto", "dtype": "auto"}
LOADED = ("safetensors", "compressed_tensors")
"""export formats that are a folder which loads as any model does"""


class Resident:
    """One child process, started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(
        self, text: str, tokens: int, models: Sequence[str], place: Mapping[str, str] = AUTO
    ) -> Generator[Said, None, None]:
        """The lines of the answer to a text. Raises EngineError."""
        return self.said({"text": text, "tokens": tokens, "models": list(models), **place})

    def said(self, request: Said) -> Generator[Said, None, None]:
        """The lines of an answer, as `engine.serve` writes them, without the last. Raises EngineError.

        A child whose answer is not read to its end is ended: the rest would be taken for the next answer.
        """
        process = self._running()
        assert process.stdin
        assert process.stdout
        whole = False
        try:
            with suppress(BrokenPipeError):  # it has died: that there is no answer says so
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if whole := "end" in said:
                    return
                if "error" in said:
                    whole = "end" in json.loads(process.stdout.readline() or "{}")
                    raise EngineError(said["error"], where=said["where"], hint=said["hint"])
                yield said
            told = crashes.cause(_log().splitlines(), process.wait())
            raise EngineError(told, where="answering", hint=f"its last words are in {_log_file()}")
        finally:
            if not whole:
                self._end(process)

    def close(self) -> None:
        """Ends the child, whatever it is at."""
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        if self._process is process:
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            _log_file().parent.mkdir(parents=True, exist_ok=True)
            with _log_file().open("w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-X", "faulthandler", "-m", "engine.serve"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                    start_new_session=True,
                )  # fmt: skip
        return self._process


def pair(run: Run, state: RunState) -> tuple[str, str]:
    """The dense and the compressed model of a run. Raises UsageError where it has written none that loads as it is."""
    written = [run.path / artifact.path for artifact in state.artifacts if artifact.format in LOADED]
    models = [path for path in written if (path / "config.json").is_file()]
    if not models:
        hint = "a run with an export step writes one: prune 0.5 > export safetensors"
        raise UsageError("the run has written no model to compare with", where=run.name, hint=hint)
    return state.source, str(models[-1])


def place(run: Run) -> dict[str, str]:
    """The device and the number format that the run's models were in memory with."""
    try:
        model = tomli.loads(run.profile_file.read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError):
        return dict(AUTO)
    return {key: str(model.get(key, auto)) for key, auto in AUTO.items()}


def _log_file() -> Path:
    return files.cache_folder() / "serve.log"


def _log() -> str:
    try:
        return _log_file().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

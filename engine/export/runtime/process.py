"""Runs an artifact in a fresh process and takes its answer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

from engine import children
from engine.errors import EngineError
from engine.export.runtime.spec import Answer, Spec

CHILD = "engine.export.runtime.child"
LLAMACPP = "llamacpp"
LLAMACPP_FOLDER = "COMPRESS_TUI_LLAMACPP"
"""names a folder in which `npm install node-llama-cpp` has been done"""


def missing(runtime: str) -> str | None:
    """What to do for a runtime that is not here; None where it is."""
    folder = os.environ.get(LLAMACPP_FOLDER, "")
    if runtime != LLAMACPP or (shutil.which("node") and (Path(folder) / "node_modules" / "node-llama-cpp").is_dir()):
        return None
    return f"npm install node-llama-cpp in a folder, and {LLAMACPP_FOLDER}=that folder"


def run(spec: Spec) -> Answer:
    """Raises EngineError with the process's last line when it fails."""
    command, place = [sys.executable, "-P", "-m", CHILD], None
    if spec.runtime == LLAMACPP:
        command, place = ["node", str(Path(__file__).with_name("llamacpp.mjs"))], os.environ[LLAMACPP_FOLDER]
    said = json.dumps(dataclasses.asdict(spec))
    done = children.run(command, input=said, cwd=place)
    if done.returncode:
        lines = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()
        last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        hint = "the artifact is kept; verify = false skips this check"
        raise EngineError(f"the artifact does not run: {last}", where=spec.folder, hint=hint)
    return Answer(**json.loads(done.stdout.splitlines()[-1]))

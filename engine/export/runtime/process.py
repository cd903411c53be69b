"""Runs an artifact in a fresh process and takes its answer."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

from engine.errors import EngineError
from engine.export.runtime.spec import Answer, Spec

CHILD = "engine.export.runtime.child"


def run(spec: Spec) -> Answer:
    """Raises EngineError with the process's last line when it fails."""
    said = json.dumps(dataclasses.asdict(spec))
    done = subprocess.run([sys.executable, "-P", "-m", CHILD], input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        hint = "the artifact is kept; verify = false skips this check"
        raise EngineError(f"the artifact does not run: {last}", where=spec.folder, hint=hint)
    return Answer(**json.loads(done.stdout.splitlines()[-1]))

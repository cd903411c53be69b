"""What a run says while it runs: small frozen records, one JSON object a line, versioned.

Everything a screen, the command line, the report or a test shows is a fold over these (see `engine/state.py`). A field that is
added must have a default; an unknown kind from a newer version reads as `Unknown` and is kept, not dropped, and so is a known
one whose fields are missing or of another type. Events are declared by subject in the files beside this one and named here.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from math import isfinite
from typing import Any

from engine import strictjson
from engine.events.base import Event, Unknown
from engine.events.checked import PLAIN, values_of
from engine.events.export import ReferenceMeasured, ReferenceSkipped, SpeedMeasured
from engine.events.joint import GridScored, Recovered, Transferred
from engine.events.prompts import (
    CandidateAdded,
    CandidateScored,
    PromptPerturbed,
    PromptRead,
    PromptsCompared,
    PromptTrained,
    SplitTested,
)
from engine.events.run import (
    ArtifactWritten,
    Estimated,
    GateChecked,
    Log,
    MatrixInfo,
    Metric,
    ModelLoaded,
    Progress,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunQueued,
    RunStarted,
    StepFinished,
    StepStarted,
)
from engine.events.weights import (
    BitsPlanned,
    BlockRecovered,
    LayerPruned,
    LayerQuantized,
    LayerSensitivity,
    LossMeasured,
    PartsRemoved,
    SparsityPlanned,
    middle,
)

__all__ = [
    "ArtifactWritten",
    "BitsPlanned",
    "BlockRecovered",
    "CandidateAdded",
    "CandidateScored",
    "Estimated",
    "Event",
    "FINAL",
    "GateChecked",
    "GridScored",
    "KINDS",
    "LayerPruned",
    "LayerQuantized",
    "LayerSensitivity",
    "Log",
    "LossMeasured",
    "MatrixInfo",
    "Metric",
    "ModelLoaded",
    "PartsRemoved",
    "Progress",
    "PromptPerturbed",
    "PromptRead",
    "PromptTrained",
    "PromptsCompared",
    "Recovered",
    "ReferenceMeasured",
    "ReferenceSkipped",
    "RunCancelled",
    "RunFailed",
    "RunFinished",
    "RunQueued",
    "RunStarted",
    "SCHEMA",
    "SparsityPlanned",
    "SpeedMeasured",
    "SplitTested",
    "StepFinished",
    "StepStarted",
    "Transferred",
    "Unknown",
    "from_json",
    "middle",
    "to_json",
]

SCHEMA = 1
KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in Event.__subclasses__() if cls is not Unknown}
FINAL = (RunFinished, RunFailed, RunCancelled)


def to_json(event: Event) -> str:
    """One line without the newline: schema, kind and the fields, in the order of their declaration."""
    if isinstance(event, Unknown):
        return strictjson.dumps(event.data)
    record = {"schema": SCHEMA, "kind": event.kind, **dataclasses.asdict(event)}
    return strictjson.dumps(record)


def from_json(line: str | bytes) -> Event:
    """The event of one line. Raises ValueError when the line is not a JSON object (a half-written one, say)."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not an event")
    cls = KINDS.get(str(record.get("kind")))
    values = values_of(cls, record) if cls else None
    if cls and values is not None:
        with suppress(TypeError):  # a field that this version requires is missing
            return cls(**values)
    seq, time = _number(record, "seq"), _number(record, "time")
    return Unknown(name=str(record.get("kind")), data=record, seq=int(seq), time=time)


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name, 0)
    return value if type(value) in PLAIN[float] and isfinite(value) else 0

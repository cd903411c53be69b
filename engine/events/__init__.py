"""What a run says while it runs: small frozen records, one JSON object a line, versioned.

Everything a screen, the command line, the report or a test shows is a fold over these (see `engine/state.py`). A field that is
added must have a default; an unknown kind from a newer version reads as `Unknown` and is kept, not dropped. Events are declared
by subject in the files beside this one and named here.
"""

from __future__ import annotations

import dataclasses
import json

from engine.events.base import Event, Unknown
from engine.events.export import ReferenceMeasured, SpeedMeasured
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
_NAMES = {kind: [field.name for field in dataclasses.fields(cls)] for kind, cls in KINDS.items()}
FINAL = (RunFinished, RunFailed, RunCancelled)


def to_json(event: Event) -> str:
    """One line without the newline: schema, kind and the fields, in the order of their declaration."""
    if isinstance(event, Unknown):
        return json.dumps(event.data, ensure_ascii=False)
    record = {"schema": SCHEMA, "kind": event.kind, **dataclasses.asdict(event)}
    return json.dumps(record, ensure_ascii=False)


def from_json(line: str | bytes) -> Event:
    """The event of one line. Raises ValueError when the line is not a JSON object (a half-written one, say)."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not an event")
    cls = KINDS.get(str(record.get("kind")))
    values = {name: record[name] for name in _NAMES[cls.kind] if name in record} if cls else {}
    try:
        if cls:
            return cls(**values)
    except TypeError:  # a field that this version requires is missing
        pass
    seq, time = int(record.get("seq", 0)), float(record.get("time", 0.0))
    return Unknown(name=str(record.get("kind")), data=record, seq=seq, time=time)

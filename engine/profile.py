"""Profiles: TOML files that fully describe a run. Read, check, override, write back with comments kept.

All problems of a profile are reported at once, each with its key path and a hint. `file:` paths and model folders are
relative to the profile's own folder (an override's to the working folder), may use $VARIABLES, and are made absolute.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tomli
import tomlkit
from pydantic import BaseModel, Field, ValidationError, field_validator

from engine import names
from engine.data.options import CalibrationOptions, TaskOptions
from engine.errors import Problem, ProfileError, Unavailable, did_you_mean
from engine.evaluation.options import EvaluateOptions
from engine.options import Options, StepOptions
from engine.prompts.options import ALONE, MORE, SelectPromptOptions
from engine.registry import STEPS, TASKS

if TYPE_CHECKING:
    AnyStep = StepOptions
else:
    AnyStep = Annotated[
        Union[tuple(entry.options_model() for entry in STEPS.values())], Field(discriminator="use")  # noqa: UP007
    ]


class ModelOptions(Options):
    """The model under compression."""

    source: str
    """"demo", "./folder", "./file.gguf", "org/name" (fetched), "builtin:linear" or "python:package.module:factory\""""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """"auto", "cpu", "cuda", "cuda:N" or "mps\""""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """number format of the weights in memory; auto is float32 on the CPU, bfloat16 on a GPU"""
    memory: Literal["auto", "resident", "stream"] = "auto"
    """"resident": all weights in memory; "stream": block by block from the files; auto streams what would not fit"""


class GateOptions(Options):
    """Bounds the run must meet; a missed one is exit code 4."""

    perplexity_ratio: float | None = Field(default=None, gt=0.0)
    """largest perplexity, as a multiple of the dense model's"""
    accuracy_drop: float | None = None
    """largest loss of accuracy on any evaluated task, as a share of 1"""
    size_ratio: float | None = Field(default=None, gt=0.0)
    """largest size of the exported artifact, as a share of the dense model's"""


class Profile(Options):
    """A run, fully described."""

    name: str = Field(default="unnamed", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """letters, digits, dot, dash, underscore; part of the run folder's name"""
    description: str = ""
    """one line for lists"""
    seed: int = Field(default=0, ge=0)
    """every random choice starts from this"""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; all cores when missing, then noted here"""
    processes: int = Field(default=1, ge=1)
    """processes that train a whole model, on a GPU each or on shares of the threads; each takes `batch` items a step"""
    model: ModelOptions
    calibration: CalibrationOptions = CalibrationOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    task: dict[str, TaskOptions] = {}
    """the user's own tasks, by name"""
    step: list[AnyStep] = []
    """what to do, in order"""
    gate: GateOptions = GateOptions()

    @field_validator("task")
    @classmethod
    def _not_built_in(cls, tasks: dict[str, TaskOptions]) -> dict[str, TaskOptions]:
        for name in tasks:
            if name in TASKS.names():
                raise ValueError(f"{name!r} is a built-in task; choose another name")
        return tasks


@dataclass(frozen=True)
class ProfileFile:
    """A profile as it lies on disk: where, what name it answers to, its text."""

    path: Path
    shipped: bool

    @property
    def stem(self) -> str:
        return self.path.stem

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


def shipped() -> list[ProfileFile]:
    """The profiles inside the package, by name."""
    folder = Path(str(resources.files("profiles")))
    return [ProfileFile(file, shipped=True) for file in sorted(folder.glob("*.toml"))]


def find(reference: str) -> ProfileFile:
    """A profile by path or, for the shipped ones, by name. Raises Unavailable with the near names."""
    path = Path(reference).expanduser()
    if path.is_file():
        return ProfileFile(path.resolve(), shipped=False)
    for profile in shipped():
        if reference in (profile.stem, profile.path.name):
            return profile
    hint = did_you_mean(path.stem, [p.stem for p in shipped()])
    raise Unavailable("no such profile file or shipped profile", where=reference, hint=hint)


def load(reference: str, overrides: Sequence[str] = ()) -> Profile:
    """The checked profile of a path or shipped name, with `key.path=value` overrides applied.

    Raises Unavailable when there is none, ProfileError with every problem otherwise.
    """
    file = find(reference)
    return parse(file.text(), str(file.path), overrides, base=file.path.parent)


def parse(text: str, file: str, overrides: Sequence[str] = (), base: Path | None = None) -> Profile:
    """The checked profile of a TOML text; `file` names it in errors, `base` is what relative paths start from."""
    try:
        raw = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ProfileError(file, [Problem("", f"not valid TOML: {error}")]) from error
    problems: list[Problem] = []
    raw = _absolute(raw, base or Path.cwd(), problems)
    for override in overrides:
        _override(raw, override, problems)
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(raw, dict(item)) for item in error.errors()] + names.unknown(raw)
        raise ProfileError(file, problems) from error
    problems += names.unknown(raw) + _empty_pools(profile)
    if problems:
        raise ProfileError(file, problems)
    return profile


def source(text: str) -> str:
    """A model named on the command line as profiles have it: paths are absolute."""
    return str(_absolute(text, Path.cwd(), [], "model.source"))


def dump(profile: BaseModel) -> str:
    """The profile as TOML with every default written out and each key's description as a comment."""
    document = tomlkit.document()
    _fill(document, profile)
    return tomlkit.dumps(document)


def edit(text: str, changes: Mapping[str, Any]) -> str:
    """`text` with the values at dotted key paths replaced; comments, order and everything else stay. None removes."""
    document = tomlkit.parse(text)
    for key, value in changes.items():
        *parents, last = _keys(key)
        node: Any = document
        for parent in parents:
            if isinstance(parent, str) and parent not in node:
                node[parent] = tomlkit.table()
            node = node[parent]
        place = last if isinstance(node, list) else str(last)  # a table's key may be a number
        if value is None:
            del node[place]
        else:
            node[place] = _inline(value) if isinstance(value, dict) else value
    return tomlkit.dumps(document)


def schema() -> dict[str, Any]:
    """JSON schema of a profile, for editors."""
    return Profile.model_json_schema()


def _keys(path: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in path.split(".")]


def _override(raw: dict[str, Any], override: str, problems: list[Problem]) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        problems.append(Problem(override, "not KEY=VALUE", "for example --set step.0.sparsity=0.6"))
        return
    try:
        value = tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        value = text  # a bare word is a string
    *parents, last = _keys(key.strip())
    node: Any = raw
    try:
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else node[parent]
        place = str(last) if isinstance(node, dict) else last  # a table's key may be a number
        node[place] = _absolute(value, Path.cwd(), problems, key.strip())
    except (IndexError, TypeError, AttributeError):
        problems.append(Problem(key, "--set names a place that the profile does not have"))


def _absolute(raw: Any, base: Path, problems: list[Problem], key: str = "") -> Any:
    """Copies `raw` with every path in it made absolute."""
    if isinstance(raw, dict):
        return {k: _absolute(v, base, problems, f"{key}.{k}" if key else k) for k, v in raw.items()}
    if isinstance(raw, list):
        return [_absolute(v, base, problems, f"{key}.{i}") for i, v in enumerate(raw)]
    if not isinstance(raw, str):
        return raw
    if key == "model.source" and raw not in ("", "demo") and os.path.exists(base / raw):  # a name that is a path too
        return str((base / raw).resolve())
    local = key.endswith(("source", "teacher", "student")) and raw.startswith((".", "/", "~", "$"))
    if not raw.startswith("file:") and not local:
        return raw
    path = os.path.expandvars(raw.removeprefix("file:"))
    if "$" in path:
        problems.append(Problem(key, f"environment variable not set in {raw!r}"))
    absolute = str((base / os.path.expanduser(path)).resolve())
    return f"file:{absolute}" if raw.startswith("file:") else absolute


def _problem(raw: Any, error: dict[str, Any]) -> Problem:
    """A pydantic error in our words."""
    loc = [part for i, part in enumerate(error["loc"]) if i != 2 or part not in STEPS]  # step, its number, its kind
    key = ".".join(str(part) for part in loc)
    match error["type"]:
        case "extra_forbidden":
            return Problem(key, "unknown key", did_you_mean(str(loc[-1]), _known_keys(raw, loc[:-1])))
        case "missing":
            return Problem(key, "missing")
        case "literal_error":
            message, given = f"{error['msg']}, not {json.dumps(error['input'], default=str)}", error["input"]
            return Problem(key, message, _nearest(str(loc[-1]), given, error["ctx"]["expected"]))
        case "union_tag_invalid":
            return Problem(
                f"{key}.use",
                f"unknown step {error['ctx']['tag']!r}",
                did_you_mean(error["ctx"]["tag"], STEPS),
            )
        case "union_tag_not_found":
            return Problem(f"{key}.use", "missing: which step this is", did_you_mean("", STEPS))
    cause = error.get("ctx", {}).get("error")
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(error["input"], dict) else f", not {json.dumps(error['input'], default=str)}"
    return Problem(key, message + ("" if cause else shown), getattr(cause, "hint", None))


def _nearest(name: str, given: Any, expected: str) -> str:
    """A hint that names those of the values, as pydantic lists them, that are nearest to the given one."""
    if words := re.findall(r"'([^']*)'", expected):
        return did_you_mean(str(given), words)
    numbers = [int(number) for number in re.findall(r"\d+", expected)]
    try:
        away = [abs(number - float(given)) for number in numbers]
    except (TypeError, ValueError):
        away = [0.0] * len(numbers)
    near = [str(number) for number, far in zip(numbers, away, strict=True) if far == min(away)]
    return f"{name} = {' or '.join(near)}"


def _known_keys(raw: Any, loc: Sequence[str | int]) -> list[str]:
    """The keys that the table at `loc` may have."""
    model: Any = Profile
    for part in loc:
        raw = raw[part]
        if isinstance(part, int):
            model = STEPS[raw["use"]].options_model()
        elif model is Profile and part in ("step", "task"):
            model = TaskOptions
        elif model is not TaskOptions or part in TaskOptions.model_fields:
            model = _nested(model.model_fields[part].annotation)
    return list(model.model_fields)


def _nested(annotation: Any) -> Any:
    """The options model inside an annotation such as `CleanOptions | None`."""
    choices = getattr(annotation, "__args__", (annotation,))
    return next(c for c in choices if isinstance(c, type) and issubclass(c, Options))


def _empty_pools(profile: Profile) -> list[Problem]:
    pools = {i: step for i, step in enumerate(profile.step) if isinstance(step, SelectPromptOptions)}
    return [Problem(f"step.{i}.candidates", ALONE, MORE) for i, step in pools.items() if step.plain_alone]


def _fill(table: Any, model: BaseModel) -> None:
    fields = type(model).model_fields
    nested = []
    for name in fields:
        value = getattr(model, name)
        if _is_table(value):
            nested.append((name, value))
            continue
        text = re.sub(r"\s+", " ", fields[name].description or "").strip()
        if value is None:
            table.add(tomlkit.comment(f"{name} = not set" + (f": {text}" if text else "")))
        else:
            item = _inline(value) if isinstance(value, dict) else tomlkit.item(value)
            if text:
                item.comment(text)
            table.add(name, item)
    for name, value in nested:
        table.add(name, _tables(value))


def _inline(values: dict[str, Any]) -> Any:
    """A table on one line, so that keys written after it are not taken into it."""
    table = tomlkit.inline_table()
    table.update(values)
    return table


def _is_table(value: Any) -> bool:
    """Whether a value is written as a table of its own and not on one line."""
    inner = [*value.values()] if isinstance(value, dict) else value
    return isinstance(value, BaseModel) or (isinstance(inner, list) and any(isinstance(i, BaseModel) for i in inner))


def _tables(value: Any) -> Any:
    """A model as a table, a list of models as an array of tables, a dict of models as a table of tables."""
    if isinstance(value, list):
        array = tomlkit.aot()
        for item in value:
            array.append(_tables(item))
        return array
    table = tomlkit.table()
    if isinstance(value, dict):
        for key, item in value.items():
            table.add(key, _tables(item))
    else:
        _fill(table, value)
    return table

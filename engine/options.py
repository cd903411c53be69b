"""The base of every options model: strict, documented, torch-free.

The profile, the command line's help, the app's form and the reference are all made from these models, so a default or a
description is typed once. Field descriptions become the comments of a written profile.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, create_model, model_validator


class Options(BaseModel):
    """Unknown keys and wrong types are errors; values are fixed once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class StepOptions(Options):
    """Options of one step of a profile; `use` is the step's name."""

    use: str


Step = TypeVar("Step", bound=StepOptions)


def table_of(model: type[StepOptions], without: tuple[str, ...] = (), **given: Any) -> type[Options]:
    """A step's options as a table inside another step: less those that are `given` there and those it goes `without`. The
    step's own model checks the values.
    """

    def check(table: Options) -> Options:
        completed(model, table, **given)
        return table

    hidden = {*without, *given}
    fields: Any = {n: (f.annotation, copy.copy(f)) for n, f in model.model_fields.items() if n not in hidden}
    validators: Any = {"as_the_step_does": model_validator(mode="after")(check)}
    name = f"{model.__name__}Table"
    return create_model(name, __base__=Options, __doc__=model.__doc__, __validators__=validators, **fields)


def completed(model: type[Step], table: Options, **given: Any) -> Step:
    """The step's options that a table of them stands for."""
    return model.model_validate({**table.model_dump(), **given})

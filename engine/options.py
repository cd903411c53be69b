"""The base of every options model: strict, documented, torch-free.

The profile, the command line's help, the app's form and the reference are all made from these models, so a default or a
description is typed once. Field descriptions become the comments of a written profile.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Unknown keys and wrong types are errors; values are fixed once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class StepOptions(Options):
    """Options of one step of a profile; `use` is the step's name."""

    use: str

"""Errors: the lines a terminal shows, and the exit codes scripts rely on."""

from __future__ import annotations

import pytest

from engine import errors
from engine.errors import EngineError, Problem, ProfileError, did_you_mean


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EngineError, 1),
        (errors.UsageError, 2),
        (errors.Unavailable, 3),
        (errors.Cancelled, 130),
    ],
)
def test_exit_codes(error: type[EngineError], code: int) -> None:
    assert error("x").exit_code == code


def test_lines_say_where_what_and_what_next() -> None:
    assert EngineError("no such file").lines() == ["error: no such file"]
    assert EngineError("bad", where="a.toml", hint="look").lines() == ["error: a.toml: bad", "hint: look"]


def test_a_profile_error_shows_every_problem() -> None:
    error = ProfileError("p.toml", [Problem("step.0.use", "missing", "add it"), Problem("", "not TOML")])
    assert error.lines() == ["error: p.toml: step.0.use: missing", "hint: add it", "error: p.toml: not TOML"]
    assert str(error) == "2 problems in the profile"


def test_did_you_mean_names_the_near_ones_and_all() -> None:
    assert did_you_mean("wnda", ["wanda", "ria"]) == "did you mean 'wanda'? known: ria, wanda"
    assert did_you_mean("zzz", ["wanda"]) == "known: wanda"
    assert did_you_mean("x", []) == "known: none"

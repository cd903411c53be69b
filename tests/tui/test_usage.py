"""What a worker takes of the machine: measured where it can be seen, shown with a number beside each curve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import LARGE, MakeRun, app_on, kill, settle, words

from engine.runs import Owner
from tui.usage import KEPT, Meter, Usage


def test_a_worker_here_is_measured_and_one_elsewhere_or_gone_is_not() -> None:
    owner, meter = Owner.this_process(), Meter()
    assert meter.read(owner) is None  # its processor time counts from here
    seen = meter.read(owner)
    assert seen is not None
    assert seen.memory > 10**6
    assert seen.cpu >= 0
    assert meter.read(replace(owner, host="elsewhere.example")) is None
    assert meter.read(replace(owner, pid=2**22 + 1)) is None
    assert meter.read(None) is None


async def test_the_rail_shows_it_while_the_run_goes(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    last = Usage(memory=1_200_000_000, cpu=1.5)
    monkeypatch.setattr(Meter, "read", lambda meter, owner: last)  # the app may measure at any moment
    run = make_run("running", alive=True)
    app = app_on(run)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        app.follower.usage.extend(Usage(memory=n * 10**7, cpu=n / 100) for n in range(1, 2 * KEPT))
        app.follower.usage.append(last)
        app.update_screen()
        await pilot.pause()
        shown = words(app)
        assert "uses   1.2 GB" in shown
        assert "cores  1.5" in shown
        assert "█" in next(line for line in shown.splitlines() if "uses" in line)
        assert len(app.follower.usage) == KEPT
        kill(run)
        await settle(pilot)
        assert "cores" not in words(app)


async def test_a_run_that_is_over_is_not_measured(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert not app.follower.usage

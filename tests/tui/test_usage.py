"""What a worker takes of the machine: measured where it can be seen, shown with a number beside each curve."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from recorded import LARGE, MakeRun, app_on, append, kill, settle, words

from engine import events as ev
from engine.owners import Owner
from tui import usage
from tui.usage import KEPT, Done, Meter, Usage, rates


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


class NVMLError(Exception):
    """As nvidia-ml-py's."""


def cards(held: dict[int, dict[int, int | None]], used: int = 7_000_000_000) -> Any:
    """A stand-in for nvidia-ml-py: {card: {process: bytes}}; card n is at work n x 10% of the time."""

    def asked(card: int) -> list[SimpleNamespace]:
        if card not in held:
            raise NVMLError
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in held[card].items()]

    def rate(card: int) -> SimpleNamespace:
        if card == PART:
            raise NVMLError
        return SimpleNamespace(gpu=10 * card)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlDeviceGetCount=lambda: max(1, len(held)),
        nvmlDeviceGetHandleByIndex=lambda index: list(held)[index] if held else 0,
        nvmlDeviceGetComputeRunningProcesses=asked,
        nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(used=used),
        nvmlDeviceGetUtilizationRates=rate,
    )


ME, NOBODY, PART = os.getpid(), 2**22 + 1, 9


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({0: {1: 5}, 1: {ME: 100}, 2: {ME: 20}, 3: {}}, (120, 0.2)),
        ({0: {NOBODY: 5}}, (7_000_000_000, 0.0)),  # in a container: the machine's only card
        ({0: {os.getppid(): 5}}, (None, None)),  # somebody else's
        ({0: {ME: None}}, (None, None)),
        ({0: {NOBODY: 5}, 1: {NOBODY: 5}}, (None, None)),
        ({0: {ME: 5}, 9: {ME: 7}}, (12, None)),  # a part of a card does not say how busy it is
        ({}, (None, None)),  # the driver refuses
    ],
)
def test_cards_are_measured_for_a_run_on_them(
    held: dict[int, dict[int, int | None]], expected: tuple[int | None, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_driver", lambda: cards(held))
    owner, meter = Owner.this_process(), Meter()
    meter.read(owner, "cuda:0")
    seen = meter.read(owner, "cuda:0")
    assert seen is not None
    assert (seen.card_memory, seen.card) == expected
    seen = meter.read(owner, "cpu")
    assert seen is not None
    assert (seen.card_memory, seen.card) == (None, None)


@pytest.mark.parametrize("missing", ["module", "driver"])
def test_without_the_package_or_a_driver_there_are_no_cards(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses() -> None:
        raise NVMLError

    found = SimpleNamespace(nvmlInit=refuses, NVMLError=NVMLError) if missing == "driver" else None
    monkeypatch.setitem(sys.modules, "pynvml", found)
    usage._driver.cache_clear()
    try:
        assert usage._driver() is None
    finally:
        usage._driver.cache_clear()


async def test_the_rail_shows_it_while_the_run_goes(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    last = Usage(memory=1_200_000_000, cpu=1.5, card_memory=30_000_000_000, card=0.87)
    monkeypatch.setattr(Meter, "read", lambda *asked: last)  # the app may measure at any moment
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
        assert "on GPU 30.0 GB" in shown
        assert "GPU    87%" in shown
        assert "· 1.2 GB" in shown.splitlines()[0]
        assert "█" in next(line for line in shown.splitlines() if "uses" in line)
        assert len(app.follower.usage) == KEPT
        kill(run)
        await settle(pilot)
        assert "cores" not in words(app)


@pytest.mark.parametrize(
    ("width", "card", "shown"),
    [
        (50, True, "▶ running"),
        (62, True, "▶ running · demo"),
        (80, True, "▶ running · demo · cuda:0 · 30.0 GB"),
        (84, True, "▶ running · demo · cuda:0 · 30.0 GB GPU"),
        (90, True, "▶ running · demo · cuda:0 · 1.2 GB + 30.0 GB GPU"),
        (120, True, "▶ running · prune 12/30 · demo · cuda:0 · 1.2 GB + 30.0 GB GPU"),
        (72, False, "▶ running · demo · cpu"),
        (80, False, "▶ running · 40% · demo · cpu · 1.2 GB"),
        (100, False, "▶ running · prune 12/30 · demo · cpu · 1.2 GB"),
    ],
)
async def test_the_header_keeps_state_then_model_then_device_then_memory(
    width: int, card: bool, shown: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = cards({0: {ME: 30_000_000_000}})
    monkeypatch.setattr(usage, "_driver", lambda: driver)
    measured = Meter.read

    def read(meter: Meter, *asked: Any) -> Usage | None:
        seen = measured(meter, *asked)
        return replace(seen, memory=1_200_000_000) if seen else None

    monkeypatch.setattr(Meter, "read", read)
    run = make_run("running", alive=True)
    if card:
        run.events_file.write_text(run.events_file.read_text().replace('"device": "cpu"', '"device": "cuda:0"'))
    app = app_on(run)
    async with app.run_test(size=(width, 24)) as pilot:
        for _ in range(3):
            await settle(pilot)
        assert words(app).splitlines()[0].split("Profiles")[1].strip() == shown


async def test_a_long_name_of_a_model_is_cut_and_not_left_out(make_run: MakeRun) -> None:
    run = make_run("finished", source="/models/a-model-with-a-name-that-is-longer-than-the-header")
    app = app_on(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert words(app).splitlines()[0].split("Profiles")[1].strip() == "✓ done · …at-is-longer-than-the-header"


async def test_a_run_that_is_over_is_not_measured(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        assert not app.follower.usage


def test_rates_are_of_the_step_at_work_alone() -> None:
    moments = [Done(0, 1.0, 5), Done(1, 2.0, 0), Done(1, 4.0, 1), Done(1, 4.0, 2), Done(1, 5.0, 6)]
    assert rates(moments) == [0.5, 4.0]
    assert rates(moments[:1]) == []


async def test_the_rail_shows_how_fast_the_step_goes(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "read", lambda *asked: Usage(memory=10**9, cpu=1.0))
    run = make_run("running", alive=True)
    app, last = app_on(run), run.events()[-1]
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        for number in (1, 2, 3):
            step = ev.Progress(step=0, label="pruning", done=12 + number, total=30, unit="blocks", seq=last.seq + number,
                               time=last.time + 4 * number)  # fmt: skip
            append(run, ev.to_json(step))
            await settle(pilot)
        assert "does   0.25/s" in words(app)

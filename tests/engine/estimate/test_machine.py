"""What the machine has: every limit counts, and measuring leaves no trace."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest
import torch
from fixtures.models import DEVICES

from engine import memory
from engine.estimate import machine

CPU = torch.device("cpu")


def group(folder: Path, limit: str, used: int, cached: int, names: tuple[str, str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used, f"anon 7\n{names[2]} {cached}\n"), strict=True):
        (folder / ("memory.stat" if name == names[2] else name)).write_text(str(value))


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def test_every_group_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "a", "1000", 400, 100, V2)
    group(tmp_path / "a" / "b", "max", 300, 0, V2)
    (tmp_path / "own").write_text("0::/a/b\n")
    assert list(memory.group_rooms(tmp_path, tmp_path / "own")) == [700]
    group(tmp_path / "a" / "b", "500", 300, 50, V2)
    assert list(memory.group_rooms(tmp_path, tmp_path / "own")) == [250, 700]


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    group(tmp_path / "memory" / "job", "900", 100, 20, V1)
    group(tmp_path / "memory", str(2**63 - 4096), 100, 20, V1)
    (tmp_path / "own").write_text("5:cpu,cpuacct:/job\n4:memory:/job\n")
    assert list(memory.group_rooms(tmp_path, tmp_path / "own")) == [820]


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    group(tmp_path, "600", 100, 0, V2)
    (tmp_path / "own").write_text("0::/docker/not-mounted-here\n")
    assert list(memory.group_rooms(tmp_path, tmp_path / "own")) == [500]


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert list(memory.group_rooms(tmp_path, tmp_path / "nothing")) == []


def test_the_smallest_room_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < memory.free_memory(CPU) <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "group_rooms", lambda *_: iter([10**6]))
    assert memory.free_memory(CPU) == 10**6
    monkeypatch.setattr(memory, "limit_rooms", lambda: iter([-5]))
    assert memory.free_memory(CPU) == 0


def test_limits_of_the_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    data = psutil.Process().memory_info().data
    limits = {resource.RLIMIT_DATA: data + 10**9, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    (room,) = memory.limit_rooms()
    assert room == pytest.approx(10**9, abs=10**8)


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "a" / "b")[0] == machine.disk(tmp_path)[0]
    assert machine.disk(tmp_path)[1] > 0


@pytest.mark.parametrize("device", DEVICES)
def test_rates_are_measured_without_a_trace(device: str) -> None:
    before = torch.get_rng_state()
    machine._product_rate.cache_clear()
    machine._traffic.cache_clear()
    found = machine.rates(["float32", "float32", "bfloat16"], torch.device(device))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(found.products) == {"float32", "bfloat16"}
    assert min(*found.products.values(), found.traffic) > 1e6
    assert machine.rates(["bfloat16"], torch.device(device)).products["bfloat16"] == found.products["bfloat16"]


@pytest.mark.parametrize("device", DEVICES)
def test_the_peak_is_not_below_what_is_held(device: str) -> None:
    kept = torch.ones(2**20, device=device)
    assert machine.peak_memory(torch.device(device)) >= memory.held_memory(torch.device(device)) >= 4 * kept.numel()

"""The disk is measured where that is possible, and nothing is made up where it is not."""

import os
from pathlib import Path

import pytest

from app.engine import disk_speed
from app.engine.disk_speed import measure_disk

ENOUGH_BYTES = 16 << 20


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_speed, "ENOUGH_BYTES", ENOUGH_BYTES)


class Ticks:
    """A clock on which each look takes a hundredth of a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.01
        return self.now_s


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read; opened without direct access, which not every disk has."""
    opened: list[Path] = []

    def open_here(path: Path) -> object:
        opened.append(path)
        return path.open("rb", buffering=0)

    monkeypatch.setattr(disk_speed, "_open_direct", open_here)
    return opened


def test_the_largest_weights_are_read(tmp_path: Path, direct: list[Path]) -> None:
    model = tmp_path / "model"
    for name, size in (("vae/a", ENOUGH_BYTES), ("transformer/b", ENOUGH_BYTES + 5), ("c", 10)):
        path = model / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
    found = measure_disk((tmp_path / "gone", model), tmp_path / "scratch", clock=Ticks())
    assert direct == [model / "transformer" / "b.safetensors"]
    # Two full chunks, what is left and the end, with a look at the clock before each and after.
    assert found.bytes_per_s == pytest.approx((ENOUGH_BYTES + 5) / 0.05)
    assert "a model's file" in found.remark
    assert not (tmp_path / "scratch").exists()


def test_without_weights_a_file_is_written_and_removed(tmp_path: Path, direct: list[Path]) -> None:
    found = measure_disk((), tmp_path / "scratch", clock=Ticks())
    assert found.bytes_per_s is not None
    assert "cache folder" in found.remark
    assert [path.parent for path in direct] == [tmp_path / "scratch"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, direct: list[Path]) -> None:
    ticks = Ticks()

    def slow() -> float:
        ticks.now_s += 0.6
        return ticks()

    found = measure_disk((), tmp_path, clock=slow)
    # One chunk of 8 MiB and the looks at the clock around it; more would take too long.
    assert found.bytes_per_s == pytest.approx((8 << 20) / 1.23, rel=0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_bytes_is_no_speed(
    tmp_path: Path, direct: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_speed, "ENOUGH_BYTES", 0)
    (tmp_path / "a.safetensors").write_bytes(b"")
    found = measure_disk((tmp_path,), tmp_path)
    assert found.bytes_per_s is None
    assert "nothing came from it" in found.remark


def test_a_full_disk_is_not_written_to(
    tmp_path: Path, direct: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = disk_speed.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk_speed.shutil, "disk_usage", lambda _path: usage._replace(free=10))
    found = measure_disk((), tmp_path)
    assert found.bytes_per_s is None
    assert "nearly full" in found.remark
    assert direct == []


def test_where_files_come_from_memory_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    found = measure_disk((), tmp_path)
    assert found.bytes_per_s is None
    assert "past its memory" in found.remark
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no direct access on this system")
def test_this_disk_is_measured_or_says_why_not(tmp_path: Path) -> None:
    found = measure_disk((), tmp_path)
    assert (found.bytes_per_s is None) == ("could not be measured" in found.remark)
    assert found.bytes_per_s is None or found.bytes_per_s > 1e6

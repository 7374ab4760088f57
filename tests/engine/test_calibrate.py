"""A real engine process measures this machine between two jobs."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from app.core.events import CalibrationDone, JobFinished
from app.core.processor import cpu_device_name
from app.engine import calibrate as calibration
from app.engine.calibrate import calibrate
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.disk_speed import DiskSpeed
from app.engine.protocol import Calibrate, decode, encode
from tests.engine_process import EngineProcess, make_job
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
GPU = torch.device("cuda:0")
ON_GPU = cast("ComputeDevice", SimpleNamespace(torch_device=GPU, simulated=False))


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with EngineProcess() as process:
        process.wait_until_ready()
        yield process


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short measurements of the same things."""
    monkeypatch.setattr(calibration, "MIN_SECONDS", 0.02)
    monkeypatch.setattr(calibration, "CPU_PRODUCT", (64, 64, 64))


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def measure_disk(*arguments: Any) -> DiskSpeed:
        asked.append(arguments)
        return DiskSpeed(bytes_per_s=5e8, remark="Read.")

    monkeypatch.setattr(calibration, "measure_disk", measure_disk)
    return asked


def test_what_is_measured_here_has_a_name_and_a_size(
    quick: None, no_disk: list[Any], tmp_path: Path
) -> None:
    command = Calibrate(model_folders=(str(tmp_path),), scratch_folder=str(tmp_path / "s"))
    speeds = calibrate(CpuDevice(), command).speeds
    assert speeds is not None
    assert (speeds.device, speeds.device_name) == ("cpu", cpu_device_name())
    assert speeds.torch_version == torch.__version__
    assert speeds.precision == "float32"
    assert 1e5 < speeds.compute_flops < 1e14
    assert (speeds.pinned_bytes_per_s, speeds.pageable_bytes_per_s) == (None, None)
    assert (speeds.read_bytes_per_s, speeds.remarks) == (5e8, ("Read.",))
    assert (speeds.reserved_bytes, speeds.context_bytes) == (None, None)
    assert speeds.seconds > 0
    assert no_disk == [((tmp_path,), tmp_path / "s")]


def test_flops_are_those_of_the_product(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_typical_seconds", lambda work, device: work() is None or 0.5)
    assert calibration._product_flops(CPU, torch.float32) == 2 * 64**3 / 0.5


def test_a_failure_is_told_and_the_engine_lives(
    quick: None, monkeypatch: pytest.MonkeyPatch, expect_log: Any
) -> None:
    def broken(*_arguments: Any) -> DiskSpeed:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(calibration, "measure_disk", broken)
    expect_log("the calibration failed", level="ERROR")
    done = calibrate(CpuDevice(), Calibrate(model_folders=(), scratch_folder="x"))
    assert done.speeds is None
    assert done.error is not None
    assert decode(encode(done)[4:]) == done


class Accelerator:
    """Stands for `torch.accelerator` of a version that has it."""

    def __init__(self) -> None:
        self.emptied = 0

    def empty_host_cache(self) -> None:
        self.emptied += 1


@pytest.mark.parametrize("fails", [False, True])
def test_pinned_memory_is_given_back_where_torch_can(
    fails: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    accelerator = Accelerator()
    released: list[torch.device] = []

    def measure(*_arguments: Any) -> None:
        assert accelerator.emptied == 0
        if fails:
            raise torch.OutOfMemoryError("CUDA out of memory")

    if fails:
        request.getfixturevalue("expect_log")("the calibration failed", level="ERROR")
    monkeypatch.setattr(calibration, "measure_machine", measure)
    monkeypatch.setattr(calibration, "release_cached_memory", released.append)
    monkeypatch.setattr(torch, "accelerator", accelerator)
    calibrate(ON_GPU, Calibrate(model_folders=(), scratch_folder="x"))
    assert (accelerator.emptied, released) == (1, [GPU])


def test_where_there_is_no_pinned_memory_to_give_back_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "measure_machine", lambda *_arguments: None)
    monkeypatch.setattr(calibration, "release_cached_memory", lambda _device: None)
    accelerator = Accelerator()
    monkeypatch.setattr(torch, "accelerator", accelerator)
    command = Calibrate(model_folders=(), scratch_folder="x")
    calibrate(CpuDevice(), command)
    assert not accelerator.emptied
    # As in older versions of torch.
    for older in (object(), None):
        monkeypatch.setattr(torch, "accelerator", older)
        assert calibrate(ON_GPU, command).error is None


@pytest.mark.slow
def test_it_is_measured_between_two_jobs(engine: EngineProcess, tmp_path: Path) -> None:
    model = make_tiny_model("klein", tmp_path / "model")
    scratch = tmp_path / "scratch"
    engine.run(make_job(model, tmp_path / "out"), JobFinished)
    engine.send(Calibrate(model_folders=(str(model),), scratch_folder=str(scratch)))
    done = engine.wait_for(CalibrationDone)
    assert done.error is None
    assert done.speeds is not None
    assert done.speeds.compute_flops > 1e5
    assert done.speeds.remarks
    assert list(scratch.iterdir()) == []
    # It goes on working.
    engine.run(make_job(model, tmp_path / "out", job_id="2"), JobFinished)

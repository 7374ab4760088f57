"""A device that computes nothing any more costs neither the running job nor those behind it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from app.core.events import JobFailed, JobFinished, RunResumed, StepDone
from app.core.jobs import Job
from app.engine import job_run
from app.engine.broken_device import DeviceBrokenError, still_computes
from app.engine.compute_device import CpuDevice
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same, simulated
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
ILLEGAL = RuntimeError("CUDA error: an illegal memory access was encountered")
NO_HANDLE = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
NO_KERNEL = torch.AcceleratorError("CUDA error: out of memory")
FULL = torch.OutOfMemoryError("CUDA out of memory")
NO_RESOURCES = RuntimeError("level_zero backend failed with error: 40 (UR_RESULT_OUT_OF_RESOURCES)")


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_args: object, **_named: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "error", "computes"),
    [
        ("__matmul__", None, True),
        ("__matmul__", FULL, True),
        ("__matmul__", NO_HANDLE, True),
        ("__matmul__", ILLEGAL, False),
        ("sum", NO_KERNEL, True),
    ],
)
def test_what_has_no_room_is_not_broken(
    name: str, error: Exception | None, computes: bool, monkeypatch: pytest.MonkeyPatch
):
    if error is not None:
        monkeypatch.setattr(torch.Tensor, name, fails(error))
    assert still_computes(CPU) is computes


@pytest.mark.parametrize(("name", "computes"), [("__matmul__", True), ("sum", False)])
def test_level_zero_says_the_same_of_a_full_device_and_of_a_broken_one(
    name: str, computes: bool, monkeypatch: pytest.MonkeyPatch
):
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size, device=CPU))
    monkeypatch.setattr(torch.Tensor, name, fails(NO_RESOURCES))
    assert still_computes(torch.device("xpu")) is computes


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    use_quick_forecasts(monkeypatch.setattr)
    model = make_tiny_model("klein", tmp_path / "klein")
    return replace(make_job(model, tmp_path / "out", steps=3, seed=7), policy=POLICY)


def breaks_in_the_second_step(
    monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    expect_log("failed in phase", level="ERROR")
    forward, calls = Flux2Transformer2DModel.forward, 0

    def breaking(network: Any, *args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ILLEGAL
        return forward(network, *args, **named)

    monkeypatch.setattr(Flux2Transformer2DModel, "forward", breaking)


def test_a_run_goes_on_in_another_process_when_the_device_is_broken(
    asked: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
):
    keep = tmp_path / "runs"
    elsewhere = replace(asked, output=replace(asked.output, folder=str(tmp_path / "expected")))
    expected = pixels(Runs(simulated()).run(elsewhere))
    runs = Runs(simulated())
    with monkeypatch.context() as during:
        breaks_in_the_second_step(during, expect_log)
        during.setattr(job_run, "still_computes", lambda _device: False)
        with pytest.raises(DeviceBrokenError, match="Simulated GPU stopped working"):
            runs.run(asked, keep_folder=keep)
    assert not of_kind(runs.events, JobFailed)
    events = Runs(simulated()).run(asked, keep_folder=keep)
    (resumed,) = of_kind(events, RunResumed)
    assert resumed.step == 1
    assert [one.step for one in of_kind(events, StepDone)] == [2, 3]
    assert same(pixels(events), expected)


@pytest.mark.parametrize("device", [simulated, CpuDevice])
def test_other_errors_fail_their_job_and_no_other(
    device: Callable[[], Any],
    asked: Job,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: Callable[..., None],
):
    runs = Runs(device())
    with monkeypatch.context() as during:
        breaks_in_the_second_step(during, expect_log)
        assert isinstance(runs.run(asked)[-1], JobFailed)
    assert isinstance(runs.run(asked)[-1], JobFinished)

"""What goes wrong in a run on a pretend GPU, and what measures it between runs."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import (
    Downshifted,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseStarted,
    PlanMade,
    RunResumed,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.plan import PICTURE_KEEPING
from app.core.policy import Budget, MemoryMode
from app.engine import bench_run, calibrate
from app.engine.bench_stack import StackShape
from app.engine.broken_device import DeviceBrokenError
from app.engine.compute_device import AcceleratorDevice
from app.engine.device_choice import open_device
from app.engine.disk_speed import DiskSpeed
from app.engine.protocol import Calibrate
from tests.engine_runs import Runs, of_kind, pixels, same, strict
from tests.fakes.pretend_cuda import PretendGpu
from tests.fakes.pretend_cuda_guard import can_pretend
from tests.fakes.pretend_cuda_runs import gpu_at_hand, gpu_runs, job, watched

pytestmark = [
    pytest.mark.skipif(not can_pretend(), reason="this torch is built for a GPU"),
    pytest.mark.usefixtures("quick_forecasts"),
]
GPU = torch.device("cuda", 0)
MIB = 1 << 20
LEFT_BYTES = 64 << 10
"""What may stay on the device without a model: the scheduler's numbers."""


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with gpu_at_hand() as found:
        yield found


@pytest.fixture
def asked(model: Path, tmp_path: Path) -> Job:
    return replace(job(model, tmp_path / "pictures", steps=4), previews=False)


def again(asked: Job, name: str, **policy: Any) -> Job:
    output = replace(asked.output, folder=f"{asked.output.folder}-{name}")
    return replace(asked, id=name, output=output, policy=replace(asked.policy, **policy))


def at_step(runs: Runs, step: int, act: Callable[[], object]) -> None:
    """Have something happen once a step is done."""

    def seen(event: object) -> None:
        if isinstance(event, StepDone) and event.step == step:
            act()

    runs.on_event = seen


def leave(gpu: PretendGpu, left_bytes: int) -> None:
    """Have other programs take what is free but so much."""
    gpu.memory.empty_cache()
    gpu.memory.others_bytes += gpu.memory.free_bytes - left_bytes


def test_a_run_that_is_robbed_of_its_memory_goes_on(gpu: PretendGpu, asked: Job) -> None:
    runs = gpu_runs()
    quiet = runs.run(asked)
    before = gpu.memory.allocated_bytes
    robbed: list[str] = []

    def rob(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 2 and not robbed:
            robbed.append("denoise")
            leave(gpu, 0)
        if isinstance(event, PhaseStarted) and event.phase is Phase.DECODE and len(robbed) == 1:
            robbed.append("decode")
            leave(gpu, 0)
        if isinstance(event, Downshifted):
            gpu.memory.others_bytes = max(0, gpu.memory.others_bytes - MIB // 2)

    runs.on_event = rob
    events = runs.run(strict(again(asked, "robbed")))
    assert isinstance(events[-1], JobFinished), events[-1]
    rungs = of_kind(events, Downshifted)
    assert {Phase.DENOISE, Phase.DECODE} >= {rung.phase for rung in rungs} >= {Phase.DENOISE}
    assert {rung.rung for rung in rungs} <= PICTURE_KEEPING
    assert same(pixels(events), pixels(quiet), levels=1)
    # With its memory back the next one is as the first.
    gpu.memory.others_bytes = 0
    runs.on_event = lambda _event: None
    events = runs.run(again(asked, "after"))
    assert not of_kind(events, Downshifted)
    assert same(pixels(events), pixels(quiet))
    assert gpu.memory.allocated_bytes == before


def test_a_gpu_that_is_full_is_told_of_and_used_once_there_is_room(
    gpu: PretendGpu, asked: Job
) -> None:
    runs = gpu_runs()
    leave(gpu, MIB)
    failed = runs.run(strict(asked))[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code in {"engine.does_not_fit", "engine.out_of_memory"}
    gc.collect()
    assert gpu.memory.allocated_bytes <= LEFT_BYTES
    gpu.memory.others_bytes = 0
    assert isinstance(runs.run(again(asked, "room"))[-1], JobFinished)


def test_a_job_is_taken_back_while_its_weights_are_on_their_way(
    gpu: PretendGpu, asked: Job
) -> None:
    runs = gpu_runs()
    at_step(runs, 2, lambda: runs.flag.set())
    events = runs.run(again(asked, "back", mode=MemoryMode.MINIMAL))
    assert isinstance(events[-1], JobCancelled)
    gc.collect()
    assert gpu.memory.allocated_bytes <= LEFT_BYTES
    assert not any(stream.told > stream.done for stream in gpu.timeline.streams)
    runs.on_event = lambda _event: None
    assert isinstance(runs.run(again(asked, "next"))[-1], JobFinished)


def test_the_budget_falls_and_rises_between_two_steps(gpu: PretendGpu, asked: Job) -> None:
    runs = gpu_runs()
    little = Budget(headroom_bytes=0, limit_bytes=None, mode=MemoryMode.MINIMAL)
    much = replace(little, mode=MemoryMode.AUTO)

    def change(event: object) -> None:
        if isinstance(event, StepDone) and event.step in {1, 3}:
            runs.relief.change_budget(little if event.step == 1 else much)

    with watched(gpu) as seen:
        quiet = runs.run(asked)
        runs.on_event = change
        events = runs.run(again(asked, "changed"))
    streamed = [
        bool(one.plan.component("transformer").streamed_blocks) for one in of_kind(events, PlanMade)
    ]
    assert streamed == [False, True, False]
    half = len(seen.latents) // 2
    assert all(map(torch.equal, seen.latents[half:], seen.latents[:half]))
    assert same(pixels(events), pixels(quiet))


def test_the_device_is_opened_as_the_engine_opens_it(gpu: PretendGpu) -> None:
    for choice in ("auto", "cuda:0"):
        device = open_device(choice)
        assert isinstance(device, AcceleratorDevice)
        assert (device.kind, device.name) == ("cuda", "Pretend GPU")
        assert device.total_bytes == gpu.memory.capacity_bytes


def test_calibrating_gives_back_what_it_took(
    gpu: PretendGpu,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: Callable[..., None],
) -> None:
    monkeypatch.setattr(calibrate, "MIN_SECONDS", 0.01)
    monkeypatch.setattr(calibrate, "GPU_PRODUCT", (64, 64, 64))
    monkeypatch.setattr(calibrate, "COPY_BYTES", MIB)
    disk = DiskSpeed(bytes_per_s=5e8, remark="Read.")
    monkeypatch.setattr(calibrate, "measure_disk", lambda *_arguments: disk)
    command = Calibrate(model_folders=(), scratch_folder=str(tmp_path))
    device = AcceleratorDevice(GPU)
    done = calibrate.calibrate(device, command)
    assert done.error is None
    speeds = done.speeds
    assert speeds is not None
    assert (speeds.device, speeds.precision) == ("cuda:0", "bfloat16")
    assert speeds.pinned_bytes_per_s is not None
    assert speeds.pageable_bytes_per_s is not None
    assert (gpu.memory.allocated_bytes, gpu.memory.reserved_bytes) == (0, 0)
    gpu.memory.others_bytes = gpu.memory.capacity_bytes
    expect_log("the calibration failed", level="ERROR")
    full = calibrate.calibrate(device, command)
    assert full.speeds is None
    assert full.error is not None


def test_the_short_bench_streams_and_keeps_nothing(
    gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_run, "MAX_STEPS", 2)
    shape = StackShape(blocks=6, width=64, hidden=128, tokens=32)
    found = bench_run.measure(AcceleratorDevice(GPU), shape=shape)
    assert (found.device, found.pinned) == ("cuda:0", True)
    assert found.streamed_step_s is not None
    assert found.achieved_bytes_per_s == pytest.approx(25e9)
    gc.collect()
    assert gpu.memory.allocated_bytes == 0


def test_a_gpu_that_breaks_ends_the_engine_and_another_one_goes_on(
    gpu: PretendGpu,
    asked: Job,
    tmp_path: Path,
    expect_log: Callable[..., None],
) -> None:
    asked = again(asked, "broken", mode=MemoryMode.MINIMAL)
    keep = tmp_path / "kept"
    keep.mkdir()
    with watched(gpu) as seen:
        runs = gpu_runs()
        at_step(runs, 2, lambda: setattr(gpu.timeline, "broken", "an illegal memory access"))
        expect_log("failed in phase denoise", level="ERROR")
        with pytest.raises(DeviceBrokenError):
            runs.runner.run(asked, runs.flag, runs.relief, keep_folder=keep)
        # Its process ends; in the next one the device works.
        gpu.timeline.broken = ""
        events = gpu_runs().run(asked, keep_folder=keep)
        assert [one.step for one in of_kind(events, RunResumed)] == [2]
        assert isinstance(events[-1], JobFinished)
        expected = gpu_runs().run(again(asked, "whole"))
    steps = asked.request.steps
    assert all(map(torch.equal, seen.latents[:steps], seen.latents[steps:]))
    assert same(pixels(events), pixels(expected))

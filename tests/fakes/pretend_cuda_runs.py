"""Whole runs on a pretend GPU beside the same runs on the CPU."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.jobs import Job
from app.core.policy import Attention
from app.engine.compute_device import AcceleratorDevice, CpuDevice
from app.engine.quantize import ways
from app.engine.run import run as engine_run
from app.engine.run.denoise import Step
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs
from tests.fakes.pretend_cuda import PretendGpu, pretend_gpu

CAPACITY_BYTES = 4 << 30
"""What a process takes of a real GPU is planned for, about a GB."""


@dataclass
class Watched:
    """What runs have denoised, and what the device did meanwhile.

    Attributes:
        latents: After each step, in RAM.
        passes: Of the transformer, in order.
    """

    latents: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    passes: list["Pass"] = field(default_factory=list["Pass"])


@dataclass(frozen=True)
class Pass:
    """One pass through the transformer: what was asked of the driver, and what the host waited for.

    Attributes:
        driver_calls: For memory.
        taken: Memory that was asked of torch's allocator.
        waits: In order.
    """

    driver_calls: int
    taken: int
    waits: tuple[str, ...]


def job(model: Path, out: Path, **request: Any) -> Job:
    """In the precision that the tiny models and the demo are stored in, with one kind of attention.

    Args:
        model: Folder of the model.
        out: Folder for pictures.
        request: Options of the request.
    """
    made = make_job(model, out, **{"steps": 3, "images": 2, "seed": 7, **request})
    return replace(made, policy=replace(POLICY, attention=Attention.SDPA))


def on_cpu(asked: Job) -> tuple[list[Any], list[torch.Tensor]]:
    """Events and latents of a job on the CPU."""
    with watched() as seen:
        events = Runs(CpuDevice()).run(asked)
    return events, seen.latents


@contextmanager
def gpu_at_hand(capacity_bytes: int = CAPACITY_BYTES) -> Generator[PretendGpu]:
    """A pretend GPU on which nothing goes wrong that the CPU would not show."""
    with pretend_gpu(capacity_bytes) as gpu, pytest.MonkeyPatch.context() as patch:
        # What is found out about this device is not to be known of another one.
        patch.setattr(ways, "_found", {})
        patch.setattr(ways, "_refused", set())
        yield gpu
        assert gpu.timeline.mistakes == []


def gpu_runs() -> Runs:
    """An engine on the pretend GPU."""
    return Runs(AcceleratorDevice(torch.device("cuda", 0)))


@contextmanager
def watched(gpu: PretendGpu | None = None) -> Generator[Watched]:
    """Look at all that is denoised meanwhile."""
    seen = Watched()
    denoise = engine_run.denoise

    def noted(model: Any, task: Any, device: Any, *, previews: bool, on_step: Any) -> None:
        def step(done: Step) -> None:
            seen.latents.append(done.latents.clone())
            on_step(done)

        handles: list[Any] = [] if gpu is None else _watch(model.pipeline.transformer, gpu, seen)
        try:
            denoise(model, task, device, previews=previews, on_step=step)
        finally:
            for handle in handles:
                handle.remove()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_run, "denoise", noted)
        yield seen


def _watch(network: Any, gpu: PretendGpu, seen: Watched) -> list[Any]:
    began: list[tuple[int, int, int]] = []

    def now() -> tuple[int, int, int]:
        return gpu.memory.driver_calls, gpu.memory.taken, len(gpu.timeline.host_waits)

    def before(*_call: Any) -> None:
        began.append(now())

    def after(*_call: Any) -> None:
        calls, taken, waits = began.pop()
        seen.passes.append(
            Pass(
                driver_calls=gpu.memory.driver_calls - calls,
                taken=gpu.memory.taken - taken,
                waits=tuple(gpu.timeline.host_waits[waits:]),
            )
        )

    return [network.register_forward_pre_hook(before), network.register_forward_hook(after)]

"""The stories on a real GPU: another process really takes its memory.

Not tried on a real GPU: none was at hand when this was written.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import (
    Downshifted,
    JobFailed,
    JobFinished,
    PhaseStarted,
    PlanMade,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.plan import PICTURE_KEEPING
from app.core.policy import MemoryPolicy
from app.core.units import MIB
from app.engine.protocol import RelieveJob, RunJob
from tests.engine_process import EngineProcess, make_job
from tests.engine_runs import ENDS, of_kind, pixels, same, strict

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEMO = resource("models/demo")
STEPS = 16
LEVELS = 2
"""A GPU rounds otherwise in another batch."""
_TAKER = """
import sys
import torch
held = []
for line in sys.stdin:
    held.clear()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    take = free - int(line)
    if take > 0:
        held.append(torch.empty(take, dtype=torch.uint8, device="cuda"))
    print(torch.cuda.mem_get_info()[0], flush=True)
"""


class OtherProgram:
    """A process that holds memory of the GPU."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def leave(self, free_bytes: int) -> int:
        """Take all but so much; what is free then. A very large number gives all back."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{free_bytes}\n")
        stdin.flush()
        return int(stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def other() -> Iterator[OtherProgram]:
    program = OtherProgram()
    program.leave(1 << 60)  # Its own context is there before anything is planned.
    yield program
    program.end()


def gpu_engine() -> EngineProcess:
    """Not a forked one: CUDA is not to be used behind a fork."""
    return EngineProcess(device="cuda:0", fresh=True)


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with gpu_engine() as process:
        process.wait_until_ready()
        yield process


def job(out: Path, name: str, *, images: int = 6) -> Job:
    made = make_job(
        DEMO, out / name, job_id=name, width_px=512, height_px=512, images=images, steps=STEPS
    )
    return replace(made, policy=MemoryPolicy(headroom_bytes=0), previews=False)


def quiet(
    engine: EngineProcess,
    out: Path,
    phases: tuple[Phase, ...] = (Phase.DENOISE, Phase.DECODE),
    **options: int,
) -> tuple[list[Any], int]:
    """A run without trouble, and what the largest of some phases works with."""
    events = engine.run(job(out, "quiet", **options), *ENDS)
    assert isinstance(events[-1], JobFinished)
    assert not of_kind(events, Downshifted)
    plan = of_kind(events, PlanMade)[-1].plan
    return events, max(plan.phase(one).working_bytes for one in phases)


def run_until(engine: EngineProcess, asked: Job, phase: Phase, step: int = 0) -> None:
    engine.send(RunJob(job=asked))
    while engine.wait_for(PhaseStarted).phase is not phase:
        pass
    while step and engine.wait_for(StepDone).step < step:
        pass


@pytest.mark.parametrize(
    ("taken_in", "needed_in", "images"),
    [(Phase.ENCODE, Phase.DENOISE, 6), (Phase.DENOISE, Phase.DECODE, 1)],
)
def test_another_program_takes_half_of_what_the_run_needs(
    engine: EngineProcess,
    other: OtherProgram,
    tmp_path: Path,
    taken_in: Phase,
    needed_in: Phase,
    images: int,
):
    """A phase before, and in an engine that has not run: what it has, its allocator keeps."""
    with gpu_engine() as first:
        first.wait_until_ready()
        expected, working_bytes = quiet(first, tmp_path, (needed_in,), images=images)
    run_until(engine, strict(job(tmp_path, "short", images=images)), taken_in)
    other.leave(working_bytes // 2)
    engine.wait_for(*ENDS)
    events = engine.seen
    assert isinstance(events[-1], JobFinished), events[-1]
    rungs = of_kind(events, Downshifted)
    assert needed_in in {rung.phase for rung in rungs}
    assert {rung.rung for rung in rungs} <= PICTURE_KEEPING
    assert same(pixels(events), pixels(expected), levels=LEVELS)


def test_a_warning_comes_before_the_other_program(
    engine: EngineProcess, other: OtherProgram, tmp_path: Path
):
    expected, working_bytes = quiet(engine, tmp_path)
    before = len(engine.seen)
    run_until(engine, job(tmp_path, "warned"), Phase.DENOISE, step=4)
    engine.send(
        RelieveJob(
            job_id="warned", device_bytes=working_bytes // 2, host_bytes=0, reason="A game starts."
        )
    )
    assert engine.wait_for(Downshifted).foreseen
    other.leave(working_bytes)
    engine.wait_for(*ENDS)
    events = engine.seen[before:]
    assert isinstance(events[-1], JobFinished), events[-1]
    assert same(pixels(events), pixels(expected), levels=LEVELS)


def test_strict_mode_says_why_it_cannot_and_the_engine_goes_on(
    engine: EngineProcess, other: OtherProgram, tmp_path: Path
):
    # Before the engine has taken anything that it could use again.
    other.leave(8 * MIB)
    (*_events, failed) = engine.run(strict(job(tmp_path, "none")), *ENDS)
    assert isinstance(failed, JobFailed)
    assert failed.error.code in {"engine.does_not_fit", "engine.out_of_memory"}
    assert "lose other programs" in failed.error.message
    other.leave(1 << 60)
    events = engine.run(job(tmp_path, "again"), *ENDS)
    assert isinstance(events[-1], JobFinished)
    assert len(pixels(events)) == 6


def test_what_the_other_program_has_is_waited_for(
    engine: EngineProcess, other: OtherProgram, tmp_path: Path
):
    expected, _working_bytes = quiet(engine, tmp_path)
    # So that nothing of the run before is on the GPU which this one could use again.
    engine.run(replace(job(tmp_path, "gone"), model_folder=str(tmp_path)), *ENDS)
    before = len(engine.seen)
    other.leave(0)
    engine.send(RunJob(job=replace(strict(job(tmp_path, "waiting")), wait_s=60.0)))
    assert engine.wait_for(WaitingForMemory).missing_bytes > 0
    other.leave(1 << 60)
    assert engine.wait_for(WaitedForMemory).enough
    engine.wait_for(*ENDS)
    events = engine.seen[before:]
    assert isinstance(events[-1], JobFinished), events[-1]
    assert same(pixels(events), pixels(expected), levels=LEVELS)

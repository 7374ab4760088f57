"""A run that is ended at any step goes on there, in another process too, with the same picture."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from app.core.events import ImageDone, JobCancelled, JobFinished, RunResumed, StepDone
from app.core.jobs import Job
from app.core.paths import app_paths
from app.engine.compute_device import CpuDevice
from app.engine.kept_runs import STALE_S, forget_run, kept_file, sweep_kept_runs
from app.engine.protocol import RunJob
from app.engine.run import kept_latents
from tests.engine_process import EngineProcess, make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, report_of, same
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import Kind, make_tiny_model

KINDS: tuple[Kind, ...] = ("klein", "klein-base", "dev")
STEPS = 4
KILLED_AT = 19
LONG_STEPS = 28


class KilledError(Exception):
    """Stands for the end of the process: nothing of the run's own code comes after it."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is written, as it is when steps take long."""
    use_quick_forecasts(monkeypatch.setattr)
    monkeypatch.setattr(kept_latents, "AT_RISK_S", 0.0)
    monkeypatch.setattr(kept_latents, "SLOW_DISK_FACTOR", 0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: make_tiny_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def job(model: Path, out: Path, **request: Any) -> Job:
    values = {"steps": STEPS, "guidance": 4.0, "seed": 7, **request}
    return replace(make_job(model, out, **values), policy=POLICY)


def killed(runs: Runs, asked: Job, keep: Path, matches: Callable[[Any], bool]) -> None:
    """Run a job until an event, from which on nothing counts any more."""
    left: dict[Path, bytes] = {}

    def look(event: object) -> None:
        if matches(event) and not left:
            left.update({path: path.read_bytes() for path in keep.glob("*")})
            raise KilledError

    runs.on_event = look
    runs.run(asked, keep_folder=keep)
    runs.on_event = lambda _event: None
    # What a process that is gone could not have removed.
    for path, data in left.items():
        path.write_bytes(data)


def step_is(number: int) -> Callable[[Any], bool]:
    return lambda event: isinstance(event, StepDone) and event.step == number


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_at_each_step_it_was_ended_at(
    kind: Kind, folders: dict[Kind, Path], tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")  # What killing looks like within one process.
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    expected = pixels(runs.run(job(folders[kind], tmp_path / "expected", images=2)))
    for step in range(1, STEPS + 1):
        asked = job(folders[kind], tmp_path / str(step), images=2)
        killed(runs, asked, keep, step_is(step))
        events = runs.run(asked, keep_folder=keep)

        (resumed,) = of_kind(events, RunResumed)
        assert (resumed.step, resumed.steps) == (step, STEPS)
        assert [one.step for one in of_kind(events, StepDone)] == list(range(step + 1, STEPS + 1))
        assert same(pixels(events), expected)
        assert report_of(events).resumed_at == step
        assert not list(keep.iterdir())


def test_a_batch_in_parts_goes_on_with_the_part_it_was_at(
    folders: dict[Kind, Path], tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    asked = job(folders["klein"], tmp_path / "out", images=3)
    asked = replace(asked, limits=replace(asked.limits, max_images=1))
    expected = pixels(
        runs.run(replace(asked, output=replace(asked.output, folder=str(tmp_path / "expected"))))
    )

    def second_part_at_2(event: object) -> bool:
        saved = of_kind(runs.events, ImageDone)
        return isinstance(event, StepDone) and event.step == 2 and len(saved) == 1

    killed(runs, asked, keep, second_part_at_2)
    events = runs.run(replace(asked, saved=(0,)), keep_folder=keep)

    assert [one.step for one in of_kind(events, StepDone)] == [3, 4, 1, 2, 3, 4]
    assert same(pixels(events), {1: expected[1], 2: expected[2]})


def test_images_that_were_saved_are_part_of_their_part(
    folders: dict[Kind, Path], tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    asked = job(folders["klein"], tmp_path / "out", images=3)
    expected = pixels(
        runs.run(replace(asked, output=replace(asked.output, folder=str(tmp_path / "expected"))))
    )
    killed(runs, asked, keep, lambda event: isinstance(event, ImageDone))
    events = runs.run(replace(asked, saved=(0,)), keep_folder=keep)
    assert not of_kind(events, StepDone)
    # Bit for bit: decoded in the same company as at first.
    assert same(pixels(events), {1: expected[1], 2: expected[2]})


def test_only_the_same_run_goes_on(
    folders: dict[Kind, Path], tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    asked = job(folders["klein"], tmp_path / "out")
    other = replace(asked, request=replace(asked.request, prompt="a blue square"))
    expected = pixels(runs.run(other))
    killed(runs, asked, keep, step_is(2))
    file = kept_file(keep, asked.id)
    data = file.read_bytes()
    for changed in (data, data[:-40], b"", data[:9]):
        file.write_bytes(changed)
        events = runs.run(other, keep_folder=keep)
        assert not of_kind(events, RunResumed)
        assert same(pixels(events), expected)
    # More or fewer images are another matter: they depend on their own seeds only.
    file.write_bytes(data)
    more = replace(asked, request=replace(asked.request, images=2))
    more = replace(more, limits=replace(more.limits, max_images=1))
    events = runs.run(more, keep_folder=keep)
    assert [one.step for one in of_kind(events, StepDone)] == [3, 4, 1, 2, 3, 4]


def test_a_job_taken_back_leaves_nothing_and_one_of_a_closed_app_all(
    folders: dict[Kind, Path], tmp_path: Path
):
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    asked = job(folders["klein"], tmp_path / "out")
    for goes_on in (False, True):

        def cancel(event: object, goes_on: bool = goes_on) -> None:
            if isinstance(event, StepDone) and event.step == 2:
                runs.flag.set(goes_on=goes_on)

        runs.on_event = cancel
        events = runs.run(asked, keep_folder=keep)
        assert isinstance(events[-1], JobCancelled)
        assert kept_file(keep, asked.id).exists() is goes_on
    runs.on_event = lambda _event: None
    events = runs.run(asked, keep_folder=keep)
    assert [one.step for one in of_kind(events, StepDone)] == [3, 4]


def test_a_disk_that_cannot_be_written_costs_only_the_going_on(
    folders: dict[Kind, Path], tmp_path: Path
):
    occupied = tmp_path / "runs"
    occupied.touch()
    runs = Runs(CpuDevice())
    events = runs.run(job(folders["klein"], tmp_path / "out"), keep_folder=occupied)
    assert isinstance(events[-1], JobFinished)


def test_latents_are_written_whole_and_not_too_often(
    folders: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kept_latents, "AT_RISK_S", 3600.0)
    keep = tmp_path / "runs"
    runs = Runs(CpuDevice())
    runs.run(job(folders["klein"], tmp_path / "out"), keep_folder=keep)
    assert not any(keep.glob("*"))
    monkeypatch.setattr(kept_latents, "AT_RISK_S", 0.0)
    seen: list[int] = []

    def look(event: object) -> None:
        if isinstance(event, StepDone):
            (latents,) = load_file(kept_file(keep, "job")).values()
            seen.append(latents.shape[0])

    runs.on_event = look
    runs.run(job(folders["klein"], tmp_path / "out"), keep_folder=keep)
    assert seen == [32] * STEPS


def test_files_of_jobs_that_are_gone_are_swept(tmp_path: Path):
    old, new = kept_file(tmp_path, "old"), kept_file(tmp_path, "new")
    for file in (old, new):
        file.touch()
    now_s = new.stat().st_mtime
    os.utime(old, (now_s - STALE_S - 1, now_s - STALE_S - 1))
    sweep_kept_runs(tmp_path, now_s=now_s)
    assert not old.exists()
    assert new.exists()
    forget_run(tmp_path, "new")
    forget_run(tmp_path, "new")
    assert not new.exists()
    sweep_kept_runs(tmp_path / "none")
    assert kept_file(tmp_path, "../../etc").parent == tmp_path


def test_a_conversion_that_was_killed_is_swept_when_the_next_engine_starts():
    folder = app_paths().converted_folder
    folder.mkdir(parents=True)
    half = folder / ".headroom-999999999-ab.part"
    half.write_bytes(b"half")
    Runs(CpuDevice())
    assert not half.exists()


_WRITES_AT_ONCE = """
import sys
import app.engine.worker as worker
work = worker.Worker.work
def work_and_write(self, device):
    from app.engine.run import kept_latents
    from tests.quick_forecasts import use_quick_forecasts
    kept_latents.AT_RISK_S = kept_latents.SLOW_DISK_FACTOR = 0.0
    use_quick_forecasts()
    work(self, device)
worker.Worker.work = work_and_write
sys.exit(worker.main(["--device", "cpu"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_killed_engine_process_goes_on_at_step_19_of_28(
    folders: dict[Kind, Path], tmp_path: Path
):
    keep = str(tmp_path / "runs")
    asked = replace(
        make_job(folders["klein-base"], tmp_path / "out", steps=LONG_STEPS, guidance=4.0),
        previews=False,
    )
    elsewhere = replace(asked, output=replace(asked.output, folder=str(tmp_path / "expected")))
    expected = pixels(Runs(CpuDevice()).run(elsewhere))
    command = (sys.executable, "-P", "-c", _WRITES_AT_ONCE)
    with EngineProcess(command=command) as engine:
        engine.wait_until_ready()
        engine.send(RunJob(job=asked, keep_folder=keep))
        while engine.wait_for(StepDone).step < KILLED_AT:
            pass
        os.kill(engine.process.pid, signal.SIGKILL)
        engine.process.wait()
    with EngineProcess(command=command) as engine:
        engine.wait_until_ready()
        engine.send(RunJob(job=asked, keep_folder=keep))
        resumed = engine.wait_for(RunResumed)
        # It may have done another step before the signal reached it.
        assert KILLED_AT <= resumed.step <= KILLED_AT + 2
        assert engine.wait_for(StepDone).step == resumed.step + 1
        engine.wait_for(JobFinished)
        events = engine.seen
    assert same(pixels(events), expected)
    assert not list(Path(keep).iterdir())

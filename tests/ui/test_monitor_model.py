"""The monitor model: samples and events in, frames, figures and a file out."""

from pathlib import Path

import pytest

from app.core.errors import ErrorInfo
from app.core.events import (
    EngineMemory,
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseFinished,
    PhaseStarted,
    QueueChanged,
    StepDone,
)
from app.core.jobs import Phase
from app.core.units import GIB
from app.monitor.sampler import EngineProcess
from app.ui.models.memory_frame import Lane, MemoryView
from app.ui.models.monitor_model import MonitorModel
from tests.fakes.clock import FakeClock
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, host, sample


def memory(*, device_gib: float | None = None, host_gib: float = 1.0) -> EngineMemory:
    bytes_ = None if device_gib is None else round(device_gib * GIB)
    return engine_memory(bytes_, host_bytes=round(host_gib * GIB))


class Bench:
    """A model on a clock, and shorthands to feed it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.model = MonitorModel(clock=self.clock)

    def sample(
        self, *, ours_gib: float | None = None, used_gib: float = 4.0, gpu: bool = True
    ) -> None:
        self.clock.advance(0.1)
        card = device(used_gib=used_gib, engine_gib=ours_gib) if gpu else None
        computer = host(engine_gib=ours_gib)
        self.model.on_sample(sample(self.clock.now_s, gpu=card, computer=computer))

    def phase(self, phase: Phase, job_id: str = "a") -> None:
        self.model.on_event(PhaseStarted(job_id=job_id, phase=phase))

    def finish(self, job_id: str = "a") -> None:
        self.model.on_event(JobFinished(job_id=job_id, seconds=1.0, memory=memory()))


@pytest.fixture
def bench(qapp) -> Bench:
    return Bench()


def test_before_the_first_sample_there_is_nothing(bench: Bench):
    assert bench.model.frame(MemoryView.RECENT) is None
    assert bench.model.frame(MemoryView.RUN) is None
    assert bench.model.figures().lanes == ()
    assert bench.model.sample is None


def test_with_a_gpu_its_lane_comes_first_and_without_one_there_is_only_ram(bench: Bench):
    bench.sample(gpu=False)
    assert [lane.lane for lane in bench.model.figures().lanes] == [Lane.HOST]
    bench.sample(gpu=True)
    frame = bench.model.frame(MemoryView.RECENT)
    assert frame is not None
    assert [lane.lane for lane in frame.lanes] == [Lane.DEVICE, Lane.HOST]
    assert bench.model.device_name == "Fake GPU"


def test_lanes_changed_tells_a_gpu_that_comes_or_goes_and_nothing_else(bench: Bench, qtbot):
    told: list[str] = []
    bench.model.lanes_changed.connect(lambda: told.append(bench.model.device_name))
    for gpu in (False, False, True, True, False):
        bench.sample(gpu=gpu)
    assert told == ["", "Fake GPU", ""]


def test_a_frame_has_the_recorded_values_and_the_total(bench: Bench):
    bench.sample(ours_gib=1, used_gib=3)
    bench.sample(ours_gib=2, used_gib=5)
    frame = bench.model.frame(MemoryView.RECENT)
    assert frame is not None
    lane = frame.lanes[0]
    assert lane.total_bytes == 12 * GIB
    assert list(lane.ours) == [GIB, 2 * GIB]
    assert list(lane.used) == [3 * GIB, 5 * GIB]
    assert frame.times_s[-1] == frame.origin_s == bench.clock.now_s


def test_updated_comes_ten_times_a_second_at_most(bench: Bench):
    told: list[int] = []
    bench.model.updated.connect(lambda: told.append(1))
    for step in range(100):
        bench.model.on_sample(sample(1000.0 + step / 100))
    assert 10 <= len(told) <= 13
    frame = bench.model.frame(MemoryView.RECENT)
    assert frame is not None
    assert len(frame.times_s) == 100


def test_a_run_goes_from_its_first_phase_to_its_end(bench: Bench, qtbot):
    bench.sample(ours_gib=1)
    with qtbot.waitSignal(bench.model.run_started) as started:
        bench.phase(Phase.LOAD)
    assert started.args == ["a"]
    bench.sample(ours_gib=2)
    bench.phase(Phase.DENOISE)
    bench.sample(ours_gib=3)
    with qtbot.waitSignal(bench.model.run_ended) as ended:
        bench.finish()
    assert ended.args == ["a"]
    bench.sample(ours_gib=1)
    frame = bench.model.frame(MemoryView.RUN)
    assert frame is not None
    assert list(frame.lanes[0].ours) == [2 * GIB, 3 * GIB]
    assert [mark.name for mark in frame.marks] == ["load", "denoise", "finished"]
    assert frame.elapsed_s == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (JobCancelled(job_id="a"), "cancelled"),
        (JobFailed(job_id="a", error=ErrorInfo(code="x", message="y")), "failed"),
    ],
)
def test_a_run_ends_however_its_job_ends(bench: Bench, qtbot, event: object, name: str):
    bench.sample()
    bench.phase(Phase.LOAD)
    with qtbot.waitSignal(bench.model.run_ended):
        bench.model.on_event(event)
    frame = bench.model.frame(MemoryView.RUN)
    assert frame is not None
    assert frame.marks[-1].name == name


def test_the_run_has_a_new_generation_when_another_begins(bench: Bench):
    bench.sample()
    generations: list[int] = []
    for job_id in ("a", "b"):
        bench.phase(Phase.LOAD, job_id)
        bench.sample()
        frame = bench.model.frame(MemoryView.RUN)
        assert frame is not None
        generations.append(frame.generation)
        bench.finish(job_id)
    assert generations[0] != generations[1]


def test_the_engines_report_stands_in_where_the_driver_does_not_tell(bench: Bench):
    bench.phase(Phase.DENOISE)
    bench.model.on_event(
        StepDone(job_id="a", step=1, steps=4, seconds=1.0, memory=memory(device_gib=3))
    )
    bench.sample(ours_gib=None, used_gib=5)
    ours = bench.model.figures().lanes[0].ours
    others = bench.model.figures().lanes[0].others
    assert (ours.now, others.now) == (3 * GIB, 2 * GIB)


def test_the_report_of_a_dead_engine_counts_no_more(bench: Bench):
    bench.model.on_event(EngineStateChanged(state=EngineState.BUSY, pid=1))
    bench.phase(Phase.DENOISE)
    bench.model.on_event(
        PhaseFinished(job_id="a", phase=Phase.DENOISE, seconds=1, memory=memory(device_gib=3))
    )
    bench.model.on_event(EngineStateChanged(state=EngineState.RESTARTING, pid=2))
    bench.sample(ours_gib=None, used_gib=5)
    assert bench.model.figures().lanes[0].ours.now is None
    frame = bench.model.frame(MemoryView.RUN)
    assert frame is not None
    assert [mark.name for mark in frame.marks] == ["denoise", "restarted"]


def test_a_peak_between_samples_is_taken_from_the_engine(bench: Bench):
    bench.sample(ours_gib=1)
    bench.phase(Phase.DECODE)
    bench.sample(ours_gib=2)
    bench.model.on_event(
        PhaseFinished(
            job_id="a", phase=Phase.DECODE, seconds=1, memory=memory(device_gib=7, host_gib=9)
        )
    )
    device_lane, host_lane = bench.model.figures().lanes
    assert device_lane.ours.peak == 7 * GIB
    assert host_lane.ours.peak == 9 * GIB


def test_the_engine_process_is_told_to_the_monitor_thread_when_it_changes(bench: Bench):
    told: list[EngineProcess] = []
    bench.model.engine_changed.connect(told.append)
    for event in (
        EngineStateChanged(state=EngineState.STARTING, pid=7),
        EngineReady(
            pid=7, device="cuda:0", device_name="GPU", torch_version="", diffusers_version=""
        ),
        EngineStateChanged(state=EngineState.BUSY, pid=7),
        QueueChanged(jobs=()),
        EngineStateChanged(state=EngineState.STOPPED),
    ):
        bench.model.on_event(event)
    assert told == [
        EngineProcess(pid=7),
        EngineProcess(pid=7, device_name="GPU"),
        EngineProcess(pid=None, device_name="GPU"),
    ]


def test_reset_begins_peak_and_average_anew(bench: Bench, qtbot):
    bench.sample(ours_gib=9)
    with qtbot.waitSignals([bench.model.figures_reset, bench.model.updated], order="strict"):
        bench.model.reset_peak()
    assert bench.model.figures().span == "reset"
    bench.sample(ours_gib=2)
    assert bench.model.figures().lanes[0].ours.peak == 2 * GIB


def test_the_recording_of_the_run_is_saved(bench: Bench, qtbot, tmp_path: Path):
    bench.sample(ours_gib=1)
    bench.phase(Phase.LOAD)
    bench.sample(ours_gib=2)
    bench.clock.advance(0.05)
    bench.finish()
    path = tmp_path / "new folder" / "run.csv"
    with qtbot.waitSignal(bench.model.recording_saved) as saved:
        bench.model.save_recording(path)
    assert saved.args == [path]
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("0.100,load,")


def test_before_a_run_the_last_minute_is_saved(bench: Bench, qtbot, tmp_path: Path):
    for _ in range(3):
        bench.sample()
    with qtbot.waitSignal(bench.model.recording_saved):
        bench.model.save_recording(tmp_path / "minute.csv")
    assert len((tmp_path / "minute.csv").read_text("utf-8").splitlines()) == 4


def test_a_recording_that_cannot_be_saved_says_so(bench: Bench, qtbot, tmp_path: Path):
    (tmp_path / "file").touch()
    bench.sample()
    with qtbot.waitSignal(bench.model.recording_failed) as failed:
        bench.model.save_recording(tmp_path / "file" / "run.csv")
    assert "cannot be saved" in failed.args[0]


def test_there_is_nothing_to_save_before_the_first_sample(bench: Bench, qtbot, tmp_path: Path):
    with qtbot.waitSignal(bench.model.recording_failed) as failed:
        bench.model.save_recording(tmp_path / "run.csv")
    assert "nothing to save yet" in failed.args[0]
    assert not (tmp_path / "run.csv").exists()

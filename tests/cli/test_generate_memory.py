"""`generate` when memory is short: what is told, and images that are made afterwards."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import generate, main
from app.cli.monitoring import Monitoring
from app.conductor import Conductor, RunLearning
from app.core.calibration_store import CalibrationStore
from app.core.device import HostSnapshot
from app.core.errors import ErrorInfo
from app.core.events import (
    ConductorEvent,
    Downshifted,
    ImagesDeferred,
    JobFailed,
    PhaseStarted,
    PlanMade,
    RunResumed,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.plan import Rung
from app.core.units import GIB
from app.engine.kept_runs import kept_file
from app.engine.protocol import RelieveJob
from app.monitor.sampler import Sampler
from tests.fakes.conductor_stage import make_job
from tests.fakes.engine import FakeEngineClient, FakeEngines, OnRun, events_of_run
from tests.fakes.hardware import FakeHost, FakeProbe, device
from tests.fakes.memory_story import make_plan
from tests.fakes.model_folder import SMALL, make_folder

PATIENCE_S = 60.0
"""Only reached when a test fails."""
REASON = "Another program took 2.1 GB of the GPU's memory."

Run = Callable[[OnRun], int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`generate` of five images with seeds from 5, told as JSON."""
    model = make_folder(tmp_path / "model", SMALL)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def start(on_run: OnRun) -> int:
        engines = FakeEngines(on_run=on_run)
        monkeypatch.setattr(generate, "engine_starter", lambda device: engines)
        options = ["--prompt", "x", "--steps", "2", "--images", "5", "--seed", "5", "--json"]
        return main(["generate", "--model", str(model), *options])

    return start


def told(capsys: pytest.CaptureFixture[str], *events: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] in events]


def test_images_put_off_are_made_before_the_command_ends(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: list[Job] = []

    def put_off_once(client: FakeEngineClient, job: Job) -> None:
        jobs.append(job)
        events = events_of_run(job)
        if len(jobs) == 1:
            deferred = ImagesDeferred(job_id=job.id, first_index=2, images=3, reason=REASON)
            made = [one for one in events if getattr(one, "index", 0) < 2]
            client.say(deferred, *made)
        else:
            client.say(*events)

    assert run(put_off_once) == 0
    lines = told(capsys, "deferred", "image", "done")
    assert lines[0] == {"event": "deferred", "first_index": 2, "images": 3, "reason": REASON}
    images = lines[1:-1]
    assert [(one["index"], one["seed"]) for one in images] == [(i, 5 + i) for i in range(5)]
    assert (lines[-1]["images"], lines[-1]["seconds"]) == (5, 2.0)


def test_waiting_for_memory_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    waits: list[float] = []

    def go(client: FakeEngineClient, job: Job) -> None:
        waits.append(job.wait_s)
        waiting = WaitingForMemory(
            job_id=job.id, phase=Phase.LOAD, missing_bytes=GIB, others_bytes=5 * GIB, left_s=60.0
        )
        client.say(
            waiting,
            WaitedForMemory(job_id=job.id, seconds=8.5, enough=True),
            *events_of_run(job),
        )

    assert run(go) == 0
    assert waits == [60.0]
    assert told(capsys, "waiting", "waited") == [
        {
            "event": "waiting",
            "phase": "load",
            "missing_bytes": GIB,
            "others_bytes": 5 * GIB,
            "left_seconds": 60.0,
        },
        {"event": "waited", "seconds": 8.5, "enough": True},
    ]


def test_what_happens_to_the_plan_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def go(client: FakeEngineClient, job: Job) -> None:
        client.say(
            PlanMade(job_id=job.id, plan=make_plan(images=5, batch=2)),
            RunResumed(job_id=job.id, step=19, steps=28),
            Downshifted(
                job_id=job.id,
                phase=Phase.DENOISE,
                step=20,
                rung=Rung.TILE,
                before="whole",
                after="tiles of 512 px",
                reason=REASON,
                foreseen=True,
            ),
            *events_of_run(job),
        )

    assert run(go) == 0
    plan, resumed, downshift = told(capsys, "plan", "resumed", "downshift")
    assert (plan["verdict"], plan["images"], plan["batch"]) == ("fits", 5, 2)
    assert plan["peak_vram_bytes"] == 8 * GIB
    assert resumed == {"event": "resumed", "step": 19, "steps": 28}
    assert downshift == {
        "event": "downshift",
        "phase": "denoise",
        "step": 20,
        "rung": "tile",
        "from": "whole",
        "to": "tiles of 512 px",
        "reason": REASON,
        "foreseen": True,
    }


def test_a_job_that_ended_leaves_nothing_behind(run: Run) -> None:
    runs = app_paths().runs_folder
    runs.mkdir(parents=True)

    def keep(client: FakeEngineClient, job: Job) -> None:
        kept_file(runs, job.id).write_bytes(b"latents")
        client.say(*events_of_run(job))

    assert run(keep) == 0
    assert list(runs.iterdir()) == []

    def fail(client: FakeEngineClient, job: Job) -> None:
        kept_file(runs, job.id).write_bytes(b"latents")
        error = ErrorInfo(code="engine.out_of_memory", message="It ran out.")
        client.say(JobFailed(job_id=job.id, error=error))

    assert run(fail) == 1
    assert list(runs.iterdir()) == []


# The monitor without a window.


class CrowdedHost(FakeHost):
    """A computer whose GPU fills up soon after the plan is made.

    Attributes:
        planned: Set when it is.
        asked: Set as soon as the engine was asked for less.
    """

    def __init__(self, probe: FakeProbe, engines: FakeEngines) -> None:
        super().__init__()
        self.planned = threading.Event()
        self.asked = threading.Event()
        self._probe = probe
        self._engines = engines
        self._since_planned = 0

    def snapshot(self, engine_pid: int | None) -> HostSnapshot:
        self._since_planned += self.planned.is_set()
        if self._since_planned > 5:
            self._probe.now = device(used_gib=11.5, engine_gib=8.0)
        if any(isinstance(one, RelieveJob) for one in self._engines.last.commands):
            self.asked.set()
        return super().snapshot(engine_pid)


def test_memory_is_watched_without_a_window(tmp_path: Path) -> None:
    probe = FakeProbe(device(used_gib=9.0, engine_gib=8.0))

    def plan(client: FakeEngineClient, job: Job) -> None:
        client.say(
            PlanMade(job_id=job.id, plan=make_plan(decode_gib=9.0)),
            PhaseStarted(job_id=job.id, phase=Phase.DENOISE),
        )
        host.planned.set()

    engines = FakeEngines(device="cuda:0", on_run=plan)
    host = CrowdedHost(probe, engines)
    watching: list[Monitoring] = []

    def tell(event: ConductorEvent) -> None:
        for one in watching:
            one.note(event)

    conductor = Conductor(start_engine=engines, store=None, emit=tell)
    learning = RunLearning(CalibrationStore(tmp_path / "calibration.json"))
    conductor.warm_up()
    conductor.process_pending()
    monitoring = Monitoring(
        conductor,
        learning,
        lambda engine: Sampler(probes=(probe,), host=host, engine=engine),
        interval_s=0.001,
    )
    watching.append(monitoring)
    conductor.submit(make_job("job"))
    thread = threading.Thread(target=conductor.run)
    thread.start()
    with monitoring:
        assert host.asked.wait(PATIENCE_S)
    conductor.shutdown()
    thread.join()
    assert probe.closed
    assert 1000 in host.asked_for, "the engine's own memory was asked for"

"""What the engine has to say of its device, each job is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.core.events import EngineReady, Notice
from app.engine import device_choice, job_run, worker
from app.engine.compute_device import CpuDevice
from app.engine.protocol import RunJob
from app.engine.worker import JobSignals, Worker
from tests.engine_process import make_job


class Channel:
    """To an app that only listens."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("remark", ["", "The CPU computes, because torch cannot use a GPU."])
def test_each_job_is_told_why_the_cpu_computes(
    remark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_device(_choice: str, tell: Any) -> CpuDevice:
        if remark:
            tell(remark)
        return CpuDevice()

    ran: list[str] = []
    runner = SimpleNamespace(run=lambda job, *_more, **_named: ran.append(job.id))
    monkeypatch.setattr(device_choice, "open_device", open_device)
    monkeypatch.setattr(job_run, "JobRunner", lambda **_named: runner)
    for name in ("choose_torch_settings", "quieten", "diffusers_class"):
        monkeypatch.setattr(worker, name, lambda *_asked: None)
    # What there is in this process is not to be kept from being collected.
    monkeypatch.setattr(worker, "gc", SimpleNamespace(disable=int, freeze=int, enable=int))
    channel = Channel()
    engine = Worker(cast("Any", None), cast("Any", channel))
    job = make_job(tmp_path, tmp_path)
    for _ in range(2):
        engine._jobs.put((RunJob(job=job, keep_folder=""), JobSignals()))
    engine._jobs.put(None)
    engine.work("auto")
    assert ran == [job.id] * 2
    ready, *notices = channel.sent
    assert isinstance(ready, EngineReady)
    expected = [Notice(job_id=job.id, code="engine.no_gpu", message=remark)] * 2 if remark else []
    assert notices == expected

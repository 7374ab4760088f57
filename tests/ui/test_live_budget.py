"""The headroom slider and a running job: told once it rests, and done by the engine."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSlider
from pytestqt.qtbot import QtBot

from app.core.events import (
    ImageDone,
    JobFinished,
    Notice,
    QueueChanged,
    StepDone,
)
from app.core.jobs import Job, JobState, OutputTarget
from app.core.paths import resource
from app.core.policy import Budget, MemoryMode, Precision, Precisions
from app.core.request import GenerationRequest
from app.core.units import GIB, MIB
from app.engine.client import engine_starter
from app.ui.engine_thread import EngineThread
from app.ui.models import live_budget
from app.ui.models.live_budget import SETTLE_MS
from app.ui.models.policy_file import PolicyState
from app.ui.panels.memory_settings import MemorySettings
from tests.fakes.window import WindowParts
from tests.ui.find import find

DEMO = Path(resource("models/demo"))
FULL = Precisions(
    text_encoder=Precision.FP32, transformer=Precision.FP32, autoencoder=Precision.FP32
)
TOTAL_BYTES = 4 * GIB
LEAST_BYTES = 10 * MIB
"""Too little for any weights of the demo to stay, with three quarters of a GB left to others."""
OTHERS_BYTES = TOTAL_BYTES - GIB * 3 // 4 - LEAST_BYTES
ENGINE_MS = 120_000
"""For an engine to start and run; only reached when a test fails."""


def shown(qtbot: QtBot, parts: WindowParts) -> tuple[MemorySettings, QSlider]:
    """The panel, which the caller keeps, and its slider."""
    planning = parts.planning
    panel = MemorySettings(planning.policy, planning.plans, planning.presets)
    qtbot.addWidget(panel)
    panel.show()
    panel.set_open(is_open=True)
    return panel, find(panel, QSlider, "headroom_slider")


def running(parts: WindowParts, job_id: str = "a") -> Job:
    job = Job(
        id=job_id,
        request=GenerationRequest(prompt="a ring"),
        model_folder="/models/demo",
        output=OutputTarget(folder="/pictures"),
        policy=parts.planning.policy.policy,
        state=JobState.RUNNING,
    )
    parts.engine.on_event(QueueChanged(jobs=(job,)))
    return job


@pytest.fixture
def parts(parts: WindowParts) -> Iterator[WindowParts]:
    """The same, and no job runs any more at the end."""
    yield parts
    parts.engine.on_event(QueueChanged(jobs=()))


def changes(parts: WindowParts) -> list[tuple[object, ...]]:
    return [call for call in parts.control.calls if call[0] == "change_budget"]


def test_a_slider_that_is_pulled_is_told_once_it_rests(qtbot: QtBot, parts: WindowParts) -> None:
    _panel, slider = shown(qtbot, parts)
    running(parts)
    for _ in range(5):
        qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert changes(parts) == []
    qtbot.waitUntil(lambda: bool(changes(parts)))
    wanted = Budget(headroom_bytes=GIB * 7 // 4, limit_bytes=None, mode=MemoryMode.AUTO)
    assert changes(parts) == [("change_budget", "a", wanted)]


def test_limit_and_mode_are_told_and_other_choices_are_not(
    qtbot: QtBot, parts: WindowParts
) -> None:
    policy = parts.planning.policy
    running(parts)
    policy.set_precision(Precision.FP8)
    policy.set_strict(strict=True)
    policy.update(ram_headroom_bytes=GIB)
    qtbot.wait(SETTLE_MS * 3 // 2)
    assert changes(parts) == []
    policy.set_limit(8 * GIB)
    policy.set_mode(MemoryMode.MINIMAL)
    qtbot.waitUntil(lambda: bool(changes(parts)))
    [(_, _, budget)] = changes(parts)
    assert budget == Budget(
        headroom_bytes=policy.policy.headroom_bytes,
        limit_bytes=8 * GIB,
        mode=MemoryMode.MINIMAL,
    )


def test_nobody_is_told_without_a_job_or_of_another_gpu(qtbot: QtBot, parts: WindowParts) -> None:
    policy = parts.planning.policy
    policy.set_headroom(2 * GIB)
    qtbot.wait(SETTLE_MS * 3 // 2)
    running(parts)
    policy.set_device("Another GPU")
    policy.set_state(PolicyState())
    policy.set_headroom(2 * GIB)
    qtbot.wait(SETTLE_MS * 3 // 2)
    assert changes(parts) == [], "the job began with that"


class Real:
    """The models below a window, on a real engine with a simulated GPU."""

    def __init__(self, home: Path) -> None:
        story = home / "story.json"
        story.write_text(
            f'{{"capacity_bytes": {TOTAL_BYTES}, "others": [{{"bytes": {OTHERS_BYTES}}}]}}'
        )
        self.thread = EngineThread(start_engine=engine_starter(device=f"sim:{story}"), store=None)
        self.parts = WindowParts(home / "window", control=self.thread)
        self.parts.planning.policy.update(precisions=FULL, ram_headroom_bytes=0)
        self.events: list[object] = []
        self.thread.event_received.connect(self.parts.engine.on_event)
        for signal in (
            self.parts.engine.step_done,
            self.parts.engine.notice,
            self.parts.engine.image_done,
            self.parts.engine.job_finished,
        ):
            signal.connect(self.events.append)
        self.thread.start()

    def close(self) -> None:
        self.thread.stop()
        self.parts.close()

    def generate(self, folder: Path) -> None:
        self.events.clear()
        request = GenerationRequest(
            prompt="a red circle", model="demo", width_px=128, height_px=128, steps=16, seed=3
        )
        self.parts.engine.generate(
            request,
            model_folder=str(DEMO),
            output=OutputTarget(folder=str(folder)),
            previews=False,
            policy=self.parts.planning.policy.policy,
        )

    def has(self, kind: type, count: int = 1) -> bool:
        return sum(isinstance(event, kind) for event in self.events) >= count

    def picture(self) -> np.ndarray:
        [done] = [event for event in self.events if isinstance(event, ImageDone)]
        assert done.path is not None
        with Image.open(done.path) as picture:
            return np.asarray(picture)


@pytest.fixture
def real(qapp: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    # Or the run would have to be longer only to be still there.
    monkeypatch.setattr(live_budget, "SETTLE_MS", 40)
    made = Real(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_the_slider_moves_weights_of_a_real_run_and_not_a_bit_of_its_picture(
    qtbot: QtBot, real: Real, tmp_path: Path
) -> None:
    _panel, slider = shown(qtbot, real.parts)
    real.generate(tmp_path / "moved")
    qtbot.waitUntil(lambda: real.has(StepDone), timeout=ENGINE_MS)
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: real.has(Notice), timeout=ENGINE_MS)
    qtbot.waitUntil(
        lambda: isinstance(real.events[-1], StepDone) and real.events[-1].memory.slots_bytes > 0,
        timeout=ENGINE_MS,
    )
    qtbot.keyClick(slider, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: real.has(Notice, 2), timeout=ENGINE_MS)
    qtbot.waitUntil(lambda: real.has(JobFinished), timeout=ENGINE_MS)
    less, more = [event.message for event in real.events if isinstance(event, Notice)]
    assert less.startswith("From now on 768 MB of the GPU are left to other programs: ")
    assert more.startswith("From now on 512 MB of the GPU are left to other programs: the whole")
    last = [event for event in real.events if isinstance(event, StepDone)][-1]
    assert last.memory.slots_bytes == 0
    moved = real.picture()
    real.generate(tmp_path / "quiet")
    qtbot.waitUntil(lambda: real.has(JobFinished), timeout=ENGINE_MS)
    assert not real.has(Notice)
    assert np.array_equal(moved, real.picture())

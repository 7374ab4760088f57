"""A picture panel on real models, with a conductor that is played."""

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QToolButton
from pytestqt.qtbot import QtBot

from app.core.errors import ErrorInfo
from app.core.events import ImageDone, JobFinished, PhaseStarted
from app.core.jobs import JobState, Phase
from app.ui.models.background import Background
from app.ui.models.engine_model import EngineModel
from app.ui.models.results_model import ResultsModel
from app.ui.panels.picture_panel import PicturePanel
from app.ui.widgets.image_view import ImageView
from app.ui.widgets.message_bar import MessageBar
from app.ui.widgets.thumbnail_strip import ThumbnailStrip
from tests.fakes.job_control import FakeJobControl
from tests.ui.find import find
from tests.ui.run_events import MEMORY, job, queue, write_png


class PictureStudio:
    """The panel, what is below it, and the runs it sees.

    Attributes:
        control: What the panel asked for.
        engine: Takes the events.
        results: The pictures made.
        panel: Shown.
    """

    def __init__(self, qtbot: QtBot, folder: Path) -> None:
        self._qtbot = qtbot
        self._folder = folder
        self.control = FakeJobControl()
        self.engine = EngineModel(self.control)
        self.background = Background()
        self.results = ResultsModel(self.engine, self.background)
        self.panel = PicturePanel(self.engine, self.results)
        qtbot.addWidget(self.panel)
        self.panel.resize(700, 600)
        self.panel.show()

    def close(self) -> None:
        """End what runs."""
        self.engine.on_event(queue())
        self.results.stop()
        self.background.close()

    def start(self, job_id: str = "a") -> None:
        """A job begins to denoise."""
        self.engine.on_event(queue(job(job_id, seed=100, prompt="a ring")))
        self.engine.on_event(PhaseStarted(job_id=job_id, phase=Phase.DENOISE))

    def image(
        self, job_id: str = "a", *, colour: str = "#c80a14", saved: bool = True, index: int = 0
    ) -> Path:
        """A picture is made."""
        path = write_png(self._folder / f"{job_id}{index}.png", colour)
        event = ImageDone(
            job_id=job_id,
            index=index,
            seed=100 + index,
            path=str(path) if saved else None,
            png=None if saved else path.read_bytes(),
            problem=None if saved else ErrorInfo(code="output.full", message="The disk is full."),
        )
        self.engine.on_event(event)
        return path

    def finish(self, job_id: str = "a") -> None:
        """The job ends well."""
        self.engine.on_event(JobFinished(job_id=job_id, seconds=3.21, memory=MEMORY))
        self.engine.on_event(queue(job(job_id, JobState.FINISHED)))

    def run(self, job_id: str = "a", **image: Any) -> Path:
        """A whole job, until its picture is shown."""
        self.start(job_id)
        with self._qtbot.waitSignal(self.results.picture_loaded):
            path = self.image(job_id, **image)
        self.finish(job_id)
        return path

    def click(self, name: str) -> None:
        """Click a button that can be clicked."""
        button = find(self.panel, QToolButton, name)
        assert button.isVisible()
        assert button.isEnabled()
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def view(panel: PicturePanel) -> ImageView:
    return find(panel, ImageView, "image_view")


def strip(panel: PicturePanel) -> ThumbnailStrip:
    return find(panel, ThumbnailStrip, "thumbnail_strip")


def message(panel: PicturePanel, name: str = "picture_message") -> MessageBar:
    return find(panel, MessageBar, name)


def text(panel: PicturePanel, name: str) -> str:
    return find(panel, QLabel, name).text()


def centre_colour(panel: PicturePanel) -> str:
    shown = view(panel)
    return shown.grab().toImage().pixelColor(shown.rect().center()).name()

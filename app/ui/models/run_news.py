"""What happens to a plan during a run, in words: rungs taken, images put off, runs gone on with."""

from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal, Slot

from app.core.events import (
    Downshifted,
    ImagesDeferred,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseStarted,
    RunResumed,
    WaitedForMemory,
)
from app.core.units import format_seconds

MAX_LINES = 50
"""A run that adapts more often than that has been said enough about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One thing to say about a run.

    Attributes:
        job_id: Of its job.
        text: One line.
        detail: More about it, or "".
    """

    job_id: str
    text: str
    detail: str = ""


class RunNews(QObject):
    """Turns the engine's announcements into lines.

    Signals:
        told(News): Something new.
        began(str): Job id; what was said of other runs is old.
    """

    told = Signal(object)
    began = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job_id: str = ""
        self._lines: list[News] = []
        self._ended: bool = True
        self._gave_way = ""

    @property
    def lines(self) -> tuple[News, ...]:
        """All that was said of the run that goes on or ended last, oldest first."""
        return tuple(self._lines)

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent; most say nothing here."""
        match event:
            case PhaseStarted():
                self._begin(event.job_id)
            case Downshifted():
                if event.before == self._gave_way and self._lines:
                    # One thing that gives way further and further is one line.
                    self._lines.pop()
                self._say(event.job_id, downshift_line(event), event.reason)
                self._gave_way = event.after
            case ImagesDeferred():
                self._say(event.job_id, self._deferred(event), event.reason)
            case RunResumed():
                text = self.tr("Going on at step {step} of {steps}").format(
                    step=min(event.step + 1, event.steps), steps=event.steps
                )
                self._say(event.job_id, text)
            case WaitedForMemory():
                text = (
                    self.tr("Went on after {time}, when other programs gave GPU memory back")
                    if event.enough
                    else self.tr("Waited {time} in vain for GPU memory that other programs hold")
                )
                self._say(event.job_id, text.format(time=format_seconds(event.seconds)))
            case JobFinished() | JobCancelled() | JobFailed():
                self._ended = self._ended or event.job_id == self._job_id
            case _:
                pass

    def _begin(self, job_id: str) -> None:
        if job_id != self._job_id or self._ended:
            self._job_id = job_id
            self._ended = False
            self._lines.clear()
            self.began.emit(job_id)

    def _say(self, job_id: str, text: str, detail: str = "") -> None:
        self._begin(job_id)
        self._gave_way = ""
        news = News(job_id=job_id, text=text, detail=detail)
        if len(self._lines) < MAX_LINES:
            self._lines.append(news)
        self.told.emit(news)

    def _deferred(self, event: ImagesDeferred) -> str:
        first = (
            self.tr("1 image is made later")
            if event.images == 1
            else self.tr("{n} images are made later").format(n=event.images)
        )
        return _joined(first, event.reason)


def downshift_line(event: Downshifted) -> str:
    """What gives way and why: "Decode in 512 px tiles: another program took 2.1 GB"."""
    after = event.after[:1].upper() + event.after[1:]
    return _joined(after, event.reason)


def _joined(what: str, why: str) -> str:
    why = why.strip().rstrip(".")
    if not why:
        return what
    # "RAM is short" keeps its capitals.
    is_word = why[1:2].islower()
    return f"{what}: {why[:1].lower() if is_word else why[:1]}{why[1:]}"

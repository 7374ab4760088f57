"""Memory as the window sees it: takes samples and events, gives the graph and the figures."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from app.core.atomic import write_atomic
from app.core.device import Sample
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
    StepDone,
)
from app.monitor.own_use import OwnUse
from app.monitor.reading import MemoryUse, Reading, Series, read
from app.monitor.recorder import Mark, RunRecorder
from app.monitor.recording_csv import recording_csv
from app.monitor.sampler import EngineProcess, engine_process
from app.ui.models.memory_frame import (
    Lane,
    LaneFigures,
    LaneFrame,
    MarkFrame,
    MemoryFigures,
    MemoryFrame,
    MemoryView,
    PartFigures,
    Peak,
    SeriesFigures,
)

log = logging.getLogger(__name__)

MIN_UPDATE_S = 0.08
"""Samples that pile up behind a busy moment are recorded, but not all shown."""

_COLUMNS = {
    Lane.DEVICE: (Series.DEVICE_OURS, Series.DEVICE_OTHERS, Series.DEVICE_USED),
    Lane.HOST: (Series.HOST_OURS, Series.HOST_OTHERS, Series.HOST_USED),
}


class MonitorModel(QObject):
    """The one place where samples and the engine's events meet; lives in the GUI thread.

    Signals:
        updated: There is something new to show; ten a second at most.
        lanes_changed: A GPU appeared or went away, or is another one.
        run_started: Job id (str).
        run_ended: Job id (str).
        figures_reset: Peak and average begin anew.
        engine_changed: EngineProcess, for the monitor thread.
        recording_saved: Path of the file.
        recording_failed: One sentence.
    """

    updated = Signal()
    lanes_changed = Signal()
    run_started = Signal(object)
    run_ended = Signal(object)
    figures_reset = Signal()
    engine_changed = Signal(object)
    recording_saved = Signal(object)
    recording_failed = Signal(str)

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        parent: QObject | None = None,
    ) -> None:
        """Begin with nothing.

        Args:
            clock: The one samples are timed with.
            parent: Owner.
        """
        super().__init__(parent)
        self._clock = clock
        self._recorder = RunRecorder()
        self._sample: Sample | None = None
        self._reading: Reading | None = None
        self._report: EngineMemory | None = None
        self._own = OwnUse()
        self._engine = EngineProcess()
        self._split_lane: Lane | None = None
        self._updated_at_s = -float("inf")

    @property
    def sample(self) -> Sample | None:
        """The latest sample; None before the first."""
        return self._sample

    @property
    def device_name(self) -> str:
        """The GPU that is watched; "" when there is none."""
        device = None if self._sample is None else self._sample.device
        return "" if device is None else device.name

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample of the monitor thread."""
        lanes, name = self._lanes(), self.device_name
        self._sample = sample
        self._reading = read(self._own.told_apart(sample), self._report)
        self._recorder.add(self._reading)
        parts = self._reading.parts
        if parts is not None:
            self._split_lane = Lane.DEVICE if parts.on_device else Lane.HOST
        if self._lanes() != lanes or self.device_name != name:
            self.lanes_changed.emit()
        if sample.time_s - self._updated_at_s >= MIN_UPDATE_S:
            self._updated_at_s = sample.time_s
            self.updated.emit()

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent; those that say nothing about memory or phases are ignored."""
        self._own.note(event)
        match event:
            case PhaseStarted():
                self._mark(Mark(event.phase.value), event.job_id)
            case PhaseFinished() | StepDone():
                self._take_report(event.memory)
            case JobFinished():
                self._take_report(event.memory)
                self._mark(Mark.FINISHED, event.job_id)
            case JobCancelled():
                self._mark(Mark.CANCELLED, event.job_id)
            case JobFailed():
                self._mark(Mark.FAILED, event.job_id)
            case EngineReady():
                self._set_engine(engine_process(event))
            case EngineStateChanged():
                self._on_engine_state(event)
            case _:
                pass

    def frame(self, view: MemoryView) -> MemoryFrame | None:
        """What the graph shows now; None while there is nothing, as before the first run."""
        reading, recorder = self._reading, self._recorder
        if reading is None:
            return None
        began_s = recorder.run_began_s
        if view is MemoryView.RUN:
            if began_s is None:
                return None
            columns, origin_s = recorder.run(), began_s
            elapsed_s = max(0.0, columns.times_s[-1] - began_s) if len(columns) else 0.0
            marks = recorder.marks(began_s)
            if marks:
                elapsed_s = max(elapsed_s, marks[-1].time_s - began_s)
        else:
            columns, origin_s, elapsed_s = recorder.recent(reading.time_s), reading.time_s, 0.0
            marks = recorder.marks(float(columns.times_s[0]))
        split = self._split_lane
        lanes = tuple(
            LaneFrame(
                lane=lane,
                total_bytes=use.total_bytes,
                ours=columns.highs[_COLUMNS[lane][0]],
                used=columns.highs[_COLUMNS[lane][2]],
                peak=self._peak(_COLUMNS[lane][0]),
                resident=columns.highs[Series.ENGINE_RESIDENT] if lane is split else None,
                slots=columns.highs[Series.ENGINE_SLOTS] if lane is split else None,
            )
            for lane, use in self._uses()
        )
        return MemoryFrame(
            view=view,
            origin_s=origin_s,
            elapsed_s=elapsed_s,
            generation=recorder.run_generation if view is MemoryView.RUN else 0,
            times_s=columns.times_s,
            lanes=lanes,
            marks=tuple(MarkFrame(time_s=mark.time_s, name=mark.mark.value) for mark in marks),
        )

    def figures(self) -> MemoryFigures:
        """The figures beside the graph, now."""
        lanes = tuple(
            LaneFigures(
                lane=lane,
                total_bytes=use.total_bytes,
                ours=self._series(_COLUMNS[lane][0]),
                others=self._series(_COLUMNS[lane][1]),
                used=self._series(_COLUMNS[lane][2]),
                parts=self._part_figures() if lane is self._split_lane else None,
            )
            for lane, use in self._uses()
        )
        return MemoryFigures(span=self._recorder.span.value, lanes=lanes)

    @Slot()
    def reset_peak(self) -> None:
        """Begin peak and average anew from now on."""
        self._recorder.reset_figures()
        self.figures_reset.emit()
        self.updated.emit()

    def save_recording(self, path: Path) -> None:
        """Write the recorded run as CSV, or the last 60 s while nothing has run."""
        reading, recorder = self._reading, self._recorder
        if reading is None:
            self.recording_failed.emit(
                self.tr("There is nothing to save yet: the first figures come in a moment.")
            )
            return
        began_s = recorder.run_began_s
        rows = recorder.recent(reading.time_s) if began_s is None else recorder.run()
        origin_s = float(rows.times_s[0]) if began_s is None else began_s
        text = recording_csv(rows, recorder.marks(origin_s), began_s=origin_s)
        try:
            write_atomic(path, text.encode())
        except OSError as error:
            log.info("recording cannot be saved: %s", error)
            self.recording_failed.emit(
                self.tr("The recording cannot be saved to {path} ({reason}).").format(
                    path=path, reason=error.strerror or error
                )
            )
        else:
            self.recording_saved.emit(path)

    def _on_engine_state(self, event: EngineStateChanged) -> None:
        if event.pid != self._engine.pid:
            # What the last process reported went away with it.
            self._report = None
            self._set_engine(replace(self._engine, pid=event.pid))
        job_id = self._recorder.run_job_id
        if event.state is EngineState.RESTARTING and job_id is not None:
            self._mark(Mark.RESTARTED, job_id)

    def _set_engine(self, engine: EngineProcess) -> None:
        if engine != self._engine:
            self._engine = engine
            self.engine_changed.emit(engine)

    def _take_report(self, memory: EngineMemory) -> None:
        self._report = memory
        now_s = self._clock()
        self._recorder.note_peak(now_s, Series.HOST_OURS, memory.host_peak_rss_bytes)
        if memory.device_peak_bytes is not None and self._reading and self._reading.device:
            self._recorder.note_peak(now_s, Series.DEVICE_OURS, memory.device_peak_bytes)

    def _mark(self, mark: Mark, job_id: str) -> None:
        if not self._recorder.mark(self._clock(), mark, job_id):
            return
        if self._recorder.running:
            self.run_started.emit(job_id)
        else:
            self.run_ended.emit(job_id)

    def _uses(self) -> tuple[tuple[Lane, MemoryUse], ...]:
        reading = self._reading
        if reading is None:
            return ()
        if reading.device is None:
            return ((Lane.HOST, reading.host),)
        return ((Lane.DEVICE, reading.device), (Lane.HOST, reading.host))

    def _lanes(self) -> tuple[Lane, ...]:
        return tuple(lane for lane, _ in self._uses())

    def _peak(self, series: Series) -> Peak | None:
        figures = self._recorder.figures(series)
        if figures.peak is None or figures.peak_at_s is None:
            return None
        return Peak(time_s=figures.peak_at_s, value_bytes=figures.peak)

    def _part_figures(self) -> PartFigures:
        return PartFigures(
            resident=self._series(Series.ENGINE_RESIDENT),
            slots=self._series(Series.ENGINE_SLOTS),
            working=self._series(Series.ENGINE_WORKING),
        )

    def _series(self, series: Series) -> SeriesFigures:
        figures = self._recorder.figures(series)
        return SeriesFigures(now=figures.now, peak=figures.peak, average=figures.average)

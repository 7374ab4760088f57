"""How a run is told: JSON lines for programs, a progress line and paths for people."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app.cli.stdout import write_out
from app.core.errors import ErrorInfo
from app.core.events import (
    ConductorEvent,
    Converting,
    Downshifted,
    EngineMemory,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImagesDeferred,
    JobFinished,
    Loading,
    Notice,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    RunResumed,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.streaming import Streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """An image on disk; `index` is its number in the batch, from 0."""

    index: int
    seed: int
    path: str


class Report(ABC):
    """Where a run is told. Images, notices and the end are told by name; the rest are events."""

    @abstractmethod
    def event(self, event: ConductorEvent) -> None:
        """Something happened in the engine."""

    @abstractmethod
    def notice(self, notice: Notice) -> None:
        """Something worth a sentence that is no failure."""

    @abstractmethod
    def image(self, image: SavedImage) -> None:
        """An image is on disk."""

    @abstractmethod
    def done(self, event: JobFinished, *, images: int) -> None:
        """Everything went well."""

    @abstractmethod
    def error(self, error: ErrorInfo) -> None:
        """It did not."""


class JsonReport(Report):
    """One JSON object per line on stdout."""

    def event(self, event: ConductorEvent) -> None:
        """Engine states, plans, phases, steps and what gave way; the rest comes by name."""
        line = _as_json(event)
        if line is not None:
            write_json(line)

    def notice(self, notice: Notice) -> None:
        """One line."""
        write_json({"event": "notice", "code": notice.code, "message": notice.message})

    def image(self, image: SavedImage) -> None:
        """One line."""
        write_json({"event": "image", **asdict(image)})

    def done(self, event: JobFinished, *, images: int) -> None:
        """The last line of a run that went well."""
        write_json(
            {
                "event": "done",
                "seconds": event.seconds,
                "images": images,
                "peak_device_bytes": event.memory.device_peak_bytes,
                "peak_host_bytes": event.memory.host_peak_rss_bytes,
                "streaming": {
                    phase.phase.value: {
                        **_streaming(phase.streamed.streaming),
                        "compared": {
                            "steps": phase.streamed.steps,
                            "planned_waiting_s": phase.streamed.planned_waiting_s,
                            "waited_s": phase.streamed.waited_s,
                        },
                    }
                    for phase in (() if event.report is None else event.report.phases)
                    if phase.streamed is not None
                },
            }
        )

    def error(self, error: ErrorInfo) -> None:
        """The last line of a run that did not."""
        write_json({"event": "error", "code": error.code, "message": error.message})


def write_json(line: Mapping[str, Any]) -> None:
    """One object on one line of stdout, in ASCII so that no locale can break it."""
    write_out(json.dumps(line) + "\n")


def _as_json(event: ConductorEvent) -> dict[str, Any] | None:
    match event:
        case EngineReady():
            return {"event": "engine", "state": EngineState.READY.value, **asdict(event)}
        case EngineStateChanged(state=EngineState.READY):
            return None  # EngineReady has said more.
        case EngineStateChanged():
            return {
                "event": "engine",
                "state": event.state.value,
                "pid": event.pid,
                "reason": event.reason,
            }
        case PhaseStarted():
            return {
                "event": "phase",
                "phase": event.phase.value,
                "state": "started",
                "note": event.note,
            }
        case PhaseFinished():
            return {
                "event": "phase",
                "phase": event.phase.value,
                "state": "finished",
                "seconds": event.seconds,
                "memory": _memory(event.memory),
            }
        case Loading():
            return {
                "event": "loading",
                "done_bytes": event.done_bytes,
                "total_bytes": event.total_bytes,
            }
        case Converting():
            return {
                "event": "converting",
                "component": event.component,
                "precision": event.precision.value,
                "done_bytes": event.done_bytes,
                "total_bytes": event.total_bytes,
            }
        case StepDone():
            return {
                "event": "step",
                "step": event.step,
                "steps": event.steps,
                "seconds": event.seconds,
                "memory": _memory(event.memory),
                "streaming": None if event.streaming is None else _streaming(event.streaming),
            }
        case PlanMade() | Downshifted() | ImagesDeferred() | RunResumed():
            return _memory_news(event)
        case WaitingForMemory():
            return {
                "event": "waiting",
                "phase": event.phase.value,
                "missing_bytes": event.missing_bytes,
                "others_bytes": event.others_bytes,
                "left_seconds": event.left_s,
            }
        case WaitedForMemory():
            return {"event": "waited", "seconds": event.seconds, "enough": event.enough}
        case _:
            return None


def _memory_news(
    event: PlanMade | Downshifted | ImagesDeferred | RunResumed,
) -> dict[str, Any]:
    match event:
        case PlanMade(plan=plan):
            return {
                "event": "plan",
                "verdict": plan.verdict.value,
                "peak_vram_bytes": plan.peak_vram_bytes,
                "budget_bytes": plan.budget_bytes,
                "seconds": plan.seconds,
                "width": plan.width_px,
                "height": plan.height_px,
                "images": plan.images,
                "batch": plan.batch,
                "reasons": list(plan.reasons),
            }
        case Downshifted():
            return {
                "event": "downshift",
                "phase": event.phase.value,
                "step": event.step,
                "rung": event.rung.value,
                "from": event.before,
                "to": event.after,
                "reason": event.reason,
                "foreseen": event.foreseen,
            }
        case ImagesDeferred():
            return {
                "event": "deferred",
                "first_index": event.first_index,
                "images": event.images,
                "reason": event.reason,
            }
        case RunResumed():
            return {"event": "resumed", "step": event.step, "steps": event.steps}


def _streaming(streaming: Streaming) -> dict[str, float | None]:
    return {
        **asdict(streaming),
        "bytes_per_s": streaming.bytes_per_s,
        "hidden_share": streaming.hidden_share,
    }


def _memory(memory: EngineMemory) -> dict[str, int | None]:
    return asdict(memory)

"""Record what a monitor would see of a GPU during runs of the demo on the simulated device.

    python scripts/record_simulated_trace.py tests/monitor/traces/gpu

The engine, its plan and its tensors are real and are computed by the CPU; the GPU's capacity, speed
and other programs are a story's, and the clock is virtual (`app/engine/simulated_device.py`). The
files say so. The plan in them is the planner's, made before the run. RAM is not recorded.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from app.core.events import PhaseFinished, PhaseStarted, PlanMade, StepDone
from app.core.jobs import Job, OutputTarget, Phase
from app.core.paths import AppPaths, resource
from app.core.policy import MemoryPolicy, Precision, Precisions
from app.core.request import GenerationRequest
from app.core.units import GIB, MIB
from app.engine.cancel import CancelFlag
from app.engine.job_run import JobRunner
from app.engine.relief import ReliefRequests
from app.engine.save_guard import SaveGuard
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Moment, OtherUse, Story

INTERVAL_S = 0.1
HEADER = (
    "Recorded from the engine on the simulated device: its tensors and its plan are real, the "
    "GPU's capacity, speed and other programs are a story's, and the clock is virtual."
)
FP32 = Precisions(
    text_encoder=Precision.FP32, transformer=Precision.FP32, autoencoder=Precision.FP32
)
QUIET = Story(
    capacity_bytes=5 * GIB // 2,
    context_bytes=512 * MIB,
    tflops=0.12,
    copy_bytes_per_s=2e7,
    others=(OtherUse(bytes=200 * MIB),),
)
GAME = OtherUse(at=Moment(phase=Phase.DENOISE, step=3), bytes=1400 * MIB)
LEAK = OtherUse(bytes=200 * MIB, bytes_per_s=110 * MIB)
STORIES = {
    "demo_quiet": QUIET.others,
    "demo_game_at_step_3": (*QUIET.others, GAME),
    "demo_leak": (LEAK,),
}
TOLD = (PlanMade, PhaseStarted, StepDone, PhaseFinished)


class WatchedDevice(SimulatedDevice):
    """Notes how its memory is used as its clock goes on.

    Attributes:
        rows: Time, bytes in use and bytes of our engine.
    """

    def __init__(self, story: Story) -> None:
        """Begin the story."""
        super().__init__(story)
        self.rows: list[tuple[float, int, int]] = []

    def finish(self, new_bytes: int, flops: int) -> None:
        """Note how things stood while an operation ran, then the same."""
        super().finish(new_bytes, flops)
        self.note(new_bytes)

    def note(self, new_bytes: int = 0) -> None:
        """Add the samples that are due."""
        while self.clock_s() >= len(self.rows) * INTERVAL_S:
            ours = self.story.context_bytes + self.allocated_bytes() + new_bytes
            used = min(self.total_bytes, ours + self.others_bytes())
            self.rows.append((round(len(self.rows) * INTERVAL_S, 1), used, ours))


def record(others: tuple[OtherUse, ...]) -> dict[str, Any]:
    """One run of two pictures."""
    device = WatchedDevice(replace(QUIET, others=others))
    events: list[dict[str, Any]] = []

    def note(event: object) -> None:
        if isinstance(event, TOLD):
            told: dict[str, Any] = msgspec.to_builtins(event)
            told.pop("preview", None)
            told["time_s"] = round(device.clock_s(), 3)
            events.append({"event": type(event).__name__, **told})

    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            id="job",
            request=GenerationRequest(
                prompt="a red circle", seed=3, steps=6, images=2, width_px=1024, height_px=1024
            ),
            model_folder=str(resource("models/demo")),
            output=OutputTarget(folder=folder),
            policy=MemoryPolicy(headroom_bytes=0, ram_headroom_bytes=0, precisions=FP32),
            previews=False,
        )
        home = Path(folder)
        paths = AppPaths(config=home, data=home, cache=home, log=home, pictures=home)
        runner = JobRunner(device=device, send=note, guard=SaveGuard(), paths=paths)
        runner.run(job, CancelFlag(), ReliefRequests())
    return {
        "recorded": "simulated device",
        "about": HEADER,
        "device_total_bytes": device.total_bytes,
        "columns": ["time_s", "device_used_bytes", "device_engine_bytes"],
        "events": events,
        "samples": device.rows,
    }


def main() -> None:
    """Record every story."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, others in STORIES.items():
        trace = record(others)
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in trace.items()]
        (folder / f"{name}.json").write_text("{" + ",\n".join(lines) + "}\n", "utf-8")


if __name__ == "__main__":
    main()

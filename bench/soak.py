"""Memory over a long session: generations of changing sizes, parts and prompts in one engine.

    python bench/soak.py [--runs 500] [--device auto]

The engine's process keeps its model; what it holds after the last job is compared with what it held
after the warm-up, both at rest. Writes bench/results/soak.json.
"""

import argparse
import queue
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.events import JobFailed, JobFinished  # noqa: E402
from app.core.jobs import Job, OutputTarget  # noqa: E402
from app.core.paths import resource  # noqa: E402
from app.core.request import GenerationRequest  # noqa: E402
from app.core.units import MIB  # noqa: E402
from app.engine.client import EngineEnded, EngineMessage, ProcessEngineClient  # noqa: E402
from app.engine.protocol import RunJob  # noqa: E402
from bench.report import table, write_result  # noqa: E402

WARM_UP_SHARE = 0.2
"""Of the runs: by then each size was there, and the allocators have what they will keep."""
TARGET = 0.02
SIZES_PX = (96, 128, 160, 192, 224, 256, 320)
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SHAPES = ("circle", "square", "triangle")
LAST = 200
"""Runs at the end, over which what is held is to be level."""
EVERY = 50
AT_REST = 10
"""Values of either end that are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory of the engine's process after a job.

    Attributes:
        rss_bytes: Resident in RAM.
        reserved_bytes: By the allocator of the device; None on the CPU.
    """

    rss_bytes: int
    reserved_bytes: int | None


def requests(runs: int) -> list[GenerationRequest]:
    """Requests of changing sizes; the same for the same number."""
    choice = random.Random(20)
    return [
        GenerationRequest(
            prompt=f"a {choice.choice(COLOURS)} {choice.choice(SHAPES)}",
            width_px=choice.choice(SIZES_PX),
            height_px=choice.choice(SIZES_PX),
            steps=choice.choice((2, 4)),
            images=choice.choice((1, 1, 1, 2, 3)),
            seed=number,
        )
        for number in range(runs)
    ]


def soak(runs: int, device: str, folder: Path) -> tuple[list[Held], float]:
    """What the engine holds after each job, and how long all of them took."""
    inbox: queue.Queue[EngineMessage] = queue.Queue()
    client = ProcessEngineClient(inbox.put, device=device)
    client.start()
    process = psutil.Process(client.pid)
    held: list[Held] = []
    began_s = time.perf_counter()
    for number, request in enumerate(requests(runs)):
        job = Job(
            id=f"soak-{number}",
            request=request,
            model_folder=str(resource("models/demo")),
            output=OutputTarget(folder=str(folder)),
        )
        client.send(RunJob(job=job, keep_folder=str(folder / "runs")))
        finished = None
        while finished is None:
            event = inbox.get(timeout=600)
            if isinstance(event, EngineEnded | JobFailed):
                raise SystemExit(f"job {number} failed: {event}")
            if isinstance(event, JobFinished):
                finished = event
        held.append(
            Held(
                rss_bytes=process.memory_info().rss,
                reserved_bytes=finished.memory.device_reserved_bytes,
            )
        )
        for picture in folder.glob("*.png"):
            picture.unlink()
        if number % 20 == 0:
            print(f"{number:4d}  {held[-1].rss_bytes / MIB:7.1f} MiB", flush=True)
    seconds = time.perf_counter() - began_s
    client.stop()
    return held, seconds


def _growth_of_last(values: list[int]) -> float | None:
    """Over the last runs, or None where there are fewer."""
    if len(values) < LAST + AT_REST:
        return None
    before = statistics.mean(values[-LAST - AT_REST : -LAST])
    return statistics.mean(values[-AT_REST:]) / before - 1


def main() -> None:
    """Soak, print, write the result."""
    parser = argparse.ArgumentParser(description="Memory over a long session.")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        held, seconds = soak(arguments.runs, arguments.device, Path(name))
    warm = max(AT_REST, int(arguments.runs * WARM_UP_SHARE))
    figures: dict[str, object] = {"runs": arguments.runs, "warm_up": warm, "seconds": seconds}
    rows: list[list[str]] = []
    columns = {
        "ram": [one.rss_bytes for one in held],
        "device": [one.reserved_bytes for one in held if one.reserved_bytes is not None],
    }
    for what, values in columns.items():
        if not values:
            continue
        before = statistics.mean(values[warm - AT_REST : warm])
        after = statistics.mean(values[-AT_REST:])
        growth = after / before - 1
        figures[what] = {
            "after_warm_up_bytes": round(before),
            "at_the_end_bytes": round(after),
            "most_bytes": max(values),
            "growth": growth,
            "growth_of_last_runs": _growth_of_last(values),
            "every_50_runs_bytes": values[EVERY - 1 :: EVERY],
        }
        rows.append(
            [what, f"{before / MIB:.1f}", f"{after / MIB:.1f}", f"{growth:+.2%}", f"{TARGET:.0%}"]
        )
    print(table(["MiB", "after warm-up", "at the end", "growth", "target"], rows))
    figures["target"] = TARGET
    path = write_result("soak", figures, note="One engine process, the demo, changing sizes.")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

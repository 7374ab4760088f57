"""Seconds from a cold engine to the first demo picture and to the next; writes bench/results.

    python bench/demo_speed.py

Each is compared with its peer in the same run: a plain diffusers script in a fresh process, and
the same pipeline called again. 128 px, 8 steps, CPU.
"""

import queue
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.events import JobFailed, JobFinished  # noqa: E402
from app.core.jobs import Job, OutputTarget  # noqa: E402
from app.core.paths import resource  # noqa: E402
from app.core.request import GenerationRequest  # noqa: E402
from app.engine.client import EngineEnded, EngineMessage, ProcessEngineClient  # noqa: E402
from app.engine.protocol import RunJob  # noqa: E402
from bench.report import table, write_result  # noqa: E402

RUNS = 5
PROMPT = "a big red circle at the top on a blue background"
PEER = """
import sys, time
import torch
from diffusers import Flux2KleinPipeline
pipe = Flux2KleinPipeline.from_pretrained(sys.argv[1], local_files_only=True)
pipe.set_progress_bar_config(disable=True)
for run in range(6):
    began = time.perf_counter()
    image = pipe(prompt=sys.argv[2] + " " * run, width=128, height=128, num_inference_steps=8,
                 guidance_scale=1.0, generator=torch.Generator().manual_seed(run)).images[0]
    image.save(sys.argv[3])
    print(time.perf_counter() - began, flush=True)
"""


def engine_seconds(folder: Path) -> tuple[float, list[float]]:
    """Seconds from starting the process to its first picture on disk, and of the next ones."""
    inbox: queue.Queue[EngineMessage] = queue.Queue()
    began = time.perf_counter()
    client = ProcessEngineClient(inbox.put, device="cpu")
    client.start()
    seconds: list[float] = []
    for run in range(1 + RUNS):
        if run:
            began = time.perf_counter()
        job = Job(
            id=str(run),
            # Another prompt each time, so that the text encoder runs as in the peer.
            request=GenerationRequest(prompt=PROMPT + " " * run, seed=run),
            model_folder=str(resource("models/demo")),
            output=OutputTarget(folder=str(folder)),
        )
        client.send(RunJob(job=job))
        while True:
            event = inbox.get(timeout=120)
            if isinstance(event, EngineEnded | JobFailed):
                raise SystemExit(f"the engine failed: {event}")
            if isinstance(event, JobFinished):
                break
        seconds.append(time.perf_counter() - began)
    client.stop()
    return seconds[0], seconds[1:]


def peer_seconds(folder: Path) -> tuple[float, list[float]]:
    """The same of a plain diffusers script."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PEER, str(resource("models/demo")), PROMPT, str(folder / "p.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    first = time.perf_counter() - began
    rest = [float(line) for line in process.stdout]
    process.wait()
    return first, rest


def main() -> None:
    """Measure both, print a table, write the result."""
    cold: dict[str, list[float]] = {"headroom": [], "diffusers": []}
    warm: dict[str, list[float]] = {"headroom": [], "diffusers": []}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(3):
            for who, measure in (("headroom", engine_seconds), ("diffusers", peer_seconds)):
                first, rest = measure(Path(name))
                cold[who].append(first)
                warm[who] += rest
    figures = {
        "first_picture_s": {who: statistics.median(values) for who, values in cold.items()},
        "next_picture_s": {who: statistics.median(values) for who, values in warm.items()},
        "targets_s": {"first": 15.0, "next": 1.5},
    }
    rows = [
        [label, *(f"{figures[key][who]:.2f} s" for who in ("headroom", "diffusers")), target]
        for label, key, target in (
            ("first picture, cold", "first_picture_s", "15 s"),
            ("next picture", "next_picture_s", "1.5 s"),
        )
    ]
    print(table(["demo, 128 px, 8 steps", "Headroom", "diffusers script", "target"], rows))
    path = write_result("demo_speed", figures, note="Measured on the CPU; medians of 3 and 15.")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

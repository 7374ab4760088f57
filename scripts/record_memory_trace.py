"""Record what the monitor sees during one run on this machine, for the predictor's tests.

    python scripts/record_memory_trace.py tests/monitor/traces/NAME.json -- --prompt "a red circle"

What comes behind the two dashes goes to `generate`. The file holds the samples and the events with
their times; nothing in it names the machine or its user.
"""

import argparse
import json
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from app.core.device import Sample
from app.monitor.host import HostProbe
from app.monitor.pacer import Pacer
from app.monitor.probe import find_probes
from app.monitor.sampler import EngineProcess, Sampler

INTERVAL_S = 0.1
AFTERWARDS_S = 3.0


class Run:
    """`generate` in a process of its own, and what it tells."""

    def __init__(self, arguments: list[str], began_s: float) -> None:
        self.engine = EngineProcess()
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "generate", "--json", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._began_s = began_s
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "engine" and event.get("pid"):
                self.engine = EngineProcess(pid=int(event["pid"]))
            if event["event"] in ("phase", "step"):
                known = {
                    key: event[key]
                    for key in ("event", "phase", "state", "step", "steps")
                    if key in event
                }
                self.events.append({"time_s": round(time.monotonic() - self._began_s, 3), **known})

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("generate", nargs="*", help="arguments of generate")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    run = Run(arguments.generate, began_s)
    sampler = Sampler(probes=find_probes(), host=HostProbe(), engine=lambda: run.engine)
    samples: list[Sample] = []
    pacer = Pacer(INTERVAL_S, now_s=began_s)
    over_at_s: float | None = None
    while over_at_s is None or time.monotonic() - over_at_s < AFTERWARDS_S:
        if over_at_s is None and run.over:
            over_at_s = time.monotonic()
        time.sleep(pacer.wait_s(time.monotonic()))
        samples.append(sampler.sample())
        pacer.ticked(time.monotonic())
    sampler.close()
    write(arguments.file, samples, run.events, began_s)


def write(path: Path, samples: list[Sample], events: list[dict[str, Any]], began_s: float) -> None:
    """One sample a line, so that changes can be read."""
    gpu = next((one.device.name for one in samples if one.device is not None), None)
    head = {
        "recorded": True,
        "system": platform.system(),
        "gpu": gpu,
        "host_total_bytes": samples[0].host.total_bytes,
        "columns": [
            "time_s",
            "available_bytes",
            "engine_rss_bytes",
            "swap_used_bytes",
            "device_total_bytes",
            "device_used_bytes",
            "device_engine_bytes",
        ],
    }
    rows = [
        [
            round(one.time_s - began_s, 3),
            one.host.available_bytes,
            one.host.engine_rss_bytes,
            one.host.swap_used_bytes,
            *(
                (None, None, None)
                if one.device is None
                else (one.device.total_bytes, one.device.used_bytes, one.device.engine_bytes)
            ),
        ]
        for one in samples
    ]
    lines = [json.dumps(head)[:-1] + ', "events": [']
    lines.append(",\n".join(json.dumps(event) for event in events))
    lines.append('], "samples": [')
    lines.append(",\n".join(json.dumps(row) for row in rows))
    lines.append("]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

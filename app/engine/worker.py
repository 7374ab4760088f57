"""The engine process: reads commands from stdin, works on one job at a time, tells on stdout.

It ends by itself when its stdin closes, in whatever phase it is. torch is imported only after the
app has been told that this process lives.
"""

import argparse
import faulthandler
import gc
import importlib.metadata
import logging
import os
import queue
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from app import __version__
from app.core.errors import AppError, ProtocolError
from app.core.events import EngineReady, Notice
from app.core.paths import app_paths
from app.engine.cancel import CancelFlag
from app.engine.channel import ChannelLogHandler, EventChannel, take_over_stdio
from app.engine.host_memory import choose_torch_settings
from app.engine.libraries import diffusers_class, go_offline, quieten
from app.engine.protocol import (
    BROKEN_DEVICE_EXIT,
    PROTOCOL_VERSION,
    Bench,
    Calibrate,
    CancelJob,
    ChangeBudget,
    Hello,
    OfferMemory,
    RelieveJob,
    RunJob,
    Shutdown,
    read_message,
)
from app.engine.relief import ReliefRequests
from app.engine.save_guard import SaveGuard

log = logging.getLogger(__name__)

SIMULATED = "simulated"
"""What `EngineReady` calls a device that is none of torch's."""
NO_GPU_CODE = "engine.no_gpu"
SAVE_PATIENCE_S = 0.7
"""Within the second the process has to end in when its stdin closes."""


def main(argv: Sequence[str]) -> int:
    """Run the engine process until it is told to end, or its stdin closes.

    Args:
        argv: Arguments behind the program's name; `--engine-worker` among them is taken as read.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="headroom --engine-worker")
    parser.add_argument("--engine-worker", action="store_true", help="be the engine process")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:N or xpu:N")
    device: str = parser.parse_args(argv).device
    faulthandler.enable()
    go_offline()
    commands, events = take_over_stdio()
    events.send(Hello(protocol_version=PROTOCOL_VERSION, app_version=__version__))
    _set_up_logging(events)
    worker = Worker(commands, events)
    worker.start_reading()
    try:
        worker.work(device)
    except AppError as error:
        log.critical("%s", error)
        return 1
    except SystemExit as error:
        # The device is broken; `DeviceBrokenError` is known only where torch is loaded.
        log.critical("%s", error)
        # Python's own end would have the driver tidy up, which a broken device may never do.
        worker.end(BROKEN_DEVICE_EXIT)
    # OSError: a library that torch loads is missing or broken, as on Windows without its runtime.
    except (ImportError, OSError):
        log.critical("torch or diffusers cannot be imported: install Headroom again", exc_info=True)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class JobSignals:
    """What one job is told while it runs; the run looks before each block, step and phase."""

    cancel: CancelFlag = field(default_factory=CancelFlag)
    relief: ReliefRequests = field(default_factory=ReliefRequests)


class Worker:
    """Two threads: one reads commands and acts on those that cannot wait, the other works."""

    def __init__(self, commands: FileIO, events: EventChannel) -> None:
        self._commands = commands
        self._events = events
        self._guard = SaveGuard()
        self._jobs: queue.SimpleQueue[tuple[RunJob, JobSignals] | Calibrate | Bench | None] = (
            queue.SimpleQueue()
        )
        self._signals: dict[str, JobSignals] = {}

    def start_reading(self) -> None:
        """Start the thread that reads commands."""
        threading.Thread(target=self._read, name="engine-commands", daemon=True).start()

    def work(self, device_choice: str) -> None:
        """Import torch, then run jobs until told to end.

        Raises:
            SetupError: There is no such device.
            ImportError: A library is missing or broken.
            OSError: Or one that it loads in turn.
        """
        choose_torch_settings(os.environ)
        # Looking for garbage while all that is imported would take a fifth of the start.
        gc.disable()
        # Here and not above: they take a second and more, in which the app knows we live.
        import torch

        from app.engine.calibrate import calibrate
        from app.engine.device_choice import open_device
        from app.engine.devices import pci_address
        from app.engine.job_run import JobRunner

        remarks: list[str] = []
        device = open_device(device_choice, remarks.append)
        quieten()
        self._events.send(
            EngineReady(
                pid=os.getpid(),
                device=SIMULATED if device.simulated else str(device.torch_device),
                device_name=device.name,
                torch_version=str(torch.__version__),
                diffusers_version=importlib.metadata.version("diffusers"),
                pci_address="" if device.simulated else pci_address(device.torch_device),
            )
        )
        # Brings all that loading a model needs, while the user still types.
        diffusers_class("Flux2KleinPipeline")
        # The libraries stay for good: to look for garbage among them would take a second each time.
        gc.freeze()
        gc.enable()
        runner = JobRunner(
            device=device, send=self._events.send, guard=self._guard, paths=app_paths()
        )
        while (entry := self._jobs.get()) is not None:
            if isinstance(entry, Calibrate):
                self._events.send(calibrate(device, entry))
                continue
            if isinstance(entry, Bench):
                # Rarely wanted, and no reason to start later.
                from app.engine.bench_run import bench

                self._events.send(bench(device))
                continue
            command, signals = entry
            for remark in remarks:
                self._events.send(Notice(job_id=command.job.id, code=NO_GPU_CODE, message=remark))
            folder = Path(command.keep_folder) if command.keep_folder else None
            runner.run(command.job, signals.cancel, signals.relief, keep_folder=folder)
            self._signals.pop(command.job.id, None)

    def _read(self) -> None:
        try:
            while (command := read_message(self._commands)) is not None:
                self._act(command)
        except ProtocolError as error:
            log.critical("a command cannot be understood (%s); the engine ends", error.details)
            self.end(1)
        except OSError as error:
            log.critical("commands cannot be read (%s); the engine ends", error)
            self.end(1)
        self.end(0)

    def _act(self, command: object) -> None:
        match command:
            case RunJob(job=job):
                signals = self._signals[job.id] = JobSignals()
                self._jobs.put((command, signals))
            case CancelJob() | RelieveJob() | ChangeBudget() | OfferMemory():
                signals = self._signals.get(command.job_id)
                if signals is not None:
                    _tell(signals, command)
            case Calibrate() | Bench():
                self._jobs.put(command)
            case Shutdown():
                for signals in tuple(self._signals.values()):
                    # Who wants a job to end for good cancels it; this one is run again some day.
                    signals.cancel.set(goes_on=True)
                self._jobs.put(None)
            case _:
                raise ProtocolError(
                    "The engine was sent something that is no command; it will be restarted.",
                    details=type(command).__name__,
                )

    def end(self, exit_code: int) -> None:
        """End the process now, whatever the other thread does, without leaving half a file."""
        self._guard.close(SAVE_PATIENCE_S)
        # Not sys.exit, which in this thread would end only the thread.
        os._exit(exit_code)


def _tell(
    signals: JobSignals, command: CancelJob | RelieveJob | ChangeBudget | OfferMemory
) -> None:
    """Have the job's run know, at its next look."""
    match command:
        case CancelJob():
            signals.cancel.set()
        case RelieveJob():
            signals.relief.ask(command.device_bytes, command.host_bytes, command.reason)
        case ChangeBudget():
            signals.relief.change_budget(command.budget)
        case OfferMemory():
            signals.relief.offer(command.reason)


def _set_up_logging(events: EventChannel) -> None:
    root = logging.getLogger()
    errors = logging.StreamHandler(sys.stderr)
    errors.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    errors.setLevel(logging.WARNING)
    root.addHandler(errors)
    root.addHandler(ChannelLogHandler(events))
    root.setLevel(logging.WARNING)
    logging.getLogger("app").setLevel(logging.INFO)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

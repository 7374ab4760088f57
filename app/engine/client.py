"""The app's end of an engine process: start it, talk to it, end it.

What the process says arrives through one callback, in a thread of the client. The last thing it
ever delivers is `EngineEnded`, exactly once, however the process came to its end.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from app.core.errors import ErrorInfo, ProtocolError
from app.core.events import EngineEvent
from app.engine.own_python import without_launcher
from app.engine.protocol import (
    PROTOCOL_VERSION,
    Command,
    Hello,
    Shutdown,
    encode,
    read_message,
)
from app.engine.windows_job import end_with_this_process

log = logging.getLogger(__name__)
engine_log = logging.getLogger("engine.process")

STOP_GRACE_S = 3.0
"""Time to end by itself after Shutdown."""
TERMINATE_GRACE_S = 2.0
LOG_TAIL_LINES = 200
_MAX_LINE_BYTES = 8192
_APP_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEnded:
    """The engine process is gone, and nothing more comes from it.

    Attributes:
        exit_code: Negative is the signal number on Linux; None when it never started.
        log_tail: The last lines it wrote to stderr.
        error: Why it was ended by us, such as a broken message; None when it ended by itself.
    """

    exit_code: int | None
    log_tail: str = ""
    error: ErrorInfo | None = None


EngineMessage = EngineEvent | Hello | EngineEnded
Deliver = Callable[[EngineMessage], None]
StartEngine = Callable[[Deliver], "EngineClient"]
"""Makes and starts a client that delivers to the given function; may raise OSError."""


class EngineClient(ABC):
    """One engine process, from its start to its end; not used again after that."""

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Of the process; None before it is started."""

    @abstractmethod
    def start(self) -> None:
        """Start the process.

        Raises:
            OSError: The system cannot start it.
        """

    @abstractmethod
    def send(self, command: Command) -> None:
        """Tell the process something; a dead one is told in vain, `EngineEnded` reports that."""

    @abstractmethod
    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the process to end, insist after `grace_s`, and return when it is gone."""

    @abstractmethod
    def kill(self) -> None:
        """End the process now; returns at once."""

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the process is gone; False when it still lives after `timeout_s`."""


class ProcessEngineClient(EngineClient):
    """The real engine: a child process on pipes.

    Three ways keep it from outliving us: it ends itself when its stdin closes, `stop` insists,
    and Windows is told to end it with this process.
    """

    def __init__(
        self, deliver: Deliver, *, device: str = "auto", command: Sequence[str] | None = None
    ) -> None:
        """Prepare a process without starting it.

        Args:
            deliver: Called in a thread of the client; must return at once.
            device: "auto", "cpu", "cuda:0", ...
            command: Another program that speaks the protocol, for tests.
        """
        self._deliver = deliver
        # -P: a folder named "app" in the user's current folder must not be taken for ours.
        self._command = (
            [sys.executable, "-P", "-m", "app", "--engine-worker", "--device", device]
            if command is None
            else list(command)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._send_lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)

    @property
    def pid(self) -> int | None:
        """Of the process; None before it is started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and the threads that read from it.

        Raises:
            OSError: The system cannot start it.
        """
        program, told = without_launcher(self._command[0])
        process = subprocess.Popen(
            [program, *self._command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(), **told},
            # Ctrl+C in a terminal goes to a whole process group: only we are to get it.
            start_new_session=os.name == "posix",
            creationflags=_creation_flags(),
        )
        self._process = process
        end_with_this_process(process.pid)
        errors = threading.Thread(
            target=self._read_log, args=(process,), name="engine-log", daemon=True
        )
        self._reader = threading.Thread(
            target=self._read_events, args=(process, errors), name="engine-reader", daemon=True
        )
        errors.start()
        self._reader.start()

    def send(self, command: Command) -> None:
        """Write one command to the process's stdin."""
        process = self._process
        if process is None or process.stdin is None:
            return
        frame = encode(command)
        # ValueError: the pipe was closed here because the process has ended.
        with self._send_lock, contextlib.suppress(OSError, ValueError):
            process.stdin.write(frame)
            process.stdin.flush()

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Shutdown, then terminate, then kill; returns when the process and our threads ended."""
        process = self._process
        if process is None:
            return
        self.send(Shutdown())
        if not self.wait(grace_s):
            log.info("the engine (pid %d) does not end when asked and is terminated", self.pid)
            process.terminate()
            if not self.wait(TERMINATE_GRACE_S):
                process.kill()
        self.wait()

    def kill(self) -> None:
        """SIGKILL, or its like on Windows."""
        if self._process is not None:
            self._process.kill()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the reader thread, which is the last to end."""
        if self._reader is None:
            return True
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def _read_events(self, process: subprocess.Popen[bytes], errors: threading.Thread) -> None:
        stdout = cast("BinaryIO", process.stdout)
        problem: ErrorInfo | None = None
        try:
            self._deliver_until_end(stdout)
        except ProtocolError as error:
            problem = error.info()
            process.kill()
        exit_code = _reaped(process)
        errors.join(TERMINATE_GRACE_S)
        with self._send_lock, contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        stdout.close()
        self._deliver(
            EngineEnded(exit_code=exit_code, log_tail="\n".join(self._tail), error=problem)
        )

    def _deliver_until_end(self, stdout: BinaryIO) -> None:
        hello = read_message(stdout)
        if hello is None:
            return
        _check_hello(hello)
        self._deliver(hello)
        while (message := read_message(stdout)) is not None:
            self._deliver(message)

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        if process.stderr is None:
            return
        with process.stderr as stderr:
            while line := stderr.readline(_MAX_LINE_BYTES):
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._tail.append(text)
                    engine_log.info("%s", text)


def engine_starter(*, device: str = "auto") -> StartEngine:
    """What the conductor needs to start engine processes on a device."""

    def start(deliver: Deliver) -> EngineClient:
        client = ProcessEngineClient(deliver, device=device)
        client.start()
        return client

    return start


def _check_hello(message: object) -> None:
    if not isinstance(message, Hello):
        raise ProtocolError(
            "The engine did not introduce itself; please report this with the log.",
            details=type(message).__name__,
        )
    if message.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(
            "The engine and the app are of different versions: close Headroom and start it again; "
            "if this stays, install it again.",
            code="engine.version",
            details=(
                f"app speaks protocol {PROTOCOL_VERSION}, engine (version {message.app_version}) "
                f"speaks {message.protocol_version}"
            ),
        )


def _reaped(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that closed its stdout; one that hangs there is killed."""
    try:
        return process.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _environment() -> dict[str, str]:
    """Ours, plus what makes the child find this very app and write readable last words."""
    found = os.environ.get("PYTHONPATH")
    home = os.environ.get("HEADROOM_HOME")
    changes = {
        "PYTHONPATH": str(_APP_ROOT) + (os.pathsep + found if found else ""),
        "PYTHONIOENCODING": "utf-8:replace",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    if home:
        changes["HEADROOM_HOME"] = str(Path(home).expanduser().resolve())
    return {**os.environ, **changes}


def _creation_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0

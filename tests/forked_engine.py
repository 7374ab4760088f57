"""Engines forked by `tests.engine_server`, with what tests use of `subprocess.Popen`."""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

_ROOT = Path(__file__).resolve().parents[1]


class ForkedEngine:
    """One engine's process.

    Attributes:
        pid: Of the process.
        stdin: Its stdin.
        stdout: Its stdout.
        stderr: Its stderr.
        returncode: Once it was waited for.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start it.

        Args:
            arguments: Of the engine, behind the program's name.
        """
        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        stderr, their_stderr = os.pipe()
        status, their_status = os.pipe()
        asked = {
            "arguments": list(arguments),
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
        }
        theirs = [their_stdin, their_stdout, their_stderr, their_status]
        socket.send_fds(_server(), [json.dumps(asked).encode()], theirs)
        for file in theirs:
            os.close(file)
        self.stdin: BinaryIO = os.fdopen(stdin, "wb")
        self.stdout: BinaryIO = os.fdopen(stdout, "rb")
        self.stderr: BinaryIO = os.fdopen(stderr, "rb")
        self.returncode: int | None = None
        self._status: BufferedReader = os.fdopen(status, "rb")
        self.pid = int(self._status.readline())

    def kill(self) -> None:
        """End it now."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("engine", timeout or 0.0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode


@functools.cache
def _server() -> socket.socket:
    """Of this process; it ends when the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            (sys.executable, "-P", "-m", "tests.engine_server", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        server.kill()
        server.wait()

    atexit.register(end)
    return ours

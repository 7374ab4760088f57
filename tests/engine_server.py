"""A process that has imported all that the engine needs, and forks itself into engines.

Importing takes seconds, which most tests of the engine's process would spend again. What such an
engine is told, says and does is that of a fresh one; how one starts is tested with fresh ones.

    python -m tests.engine_server FD

FD is a socket. Each message on it asks for an engine: JSON with "arguments", "environment" and
"folder", and the files to be its stdin, stdout and stderr, and one more, to which the number of its
process is written and, when it ends, its exit code.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from app.engine import worker
from app.engine.libraries import diffusers_class, go_offline

_IMPORTED = (
    "app.engine.calibrate",
    "app.engine.device_choice",
    "app.engine.job_run",
    "tests.quick_forecasts",
)
_FILES = 4
_MESSAGE_BYTES = 1 << 18


def main(descriptor: int) -> None:
    """Fork an engine for each message, until the other end of the socket is closed."""
    import_engine()
    with socket.socket(fileno=descriptor) as requests:
        # Nobody waits for those who wait for the engines.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            message, files, _flags, _address = socket.recv_fds(requests, _MESSAGE_BYTES, _FILES)
            if not message:
                return
            if os.fork() == 0:
                requests.close()
                watch_over_engine(json.loads(message), files)
            for file in files:
                os.close(file)


def import_engine() -> None:
    """What `Worker.work` imports before its first job, and what tests put in its place."""
    go_offline()
    for name in _IMPORTED:
        importlib.import_module(name)
    diffusers_class("Flux2KleinPipeline")
    gc.freeze()


def watch_over_engine(asked: dict[str, Any], files: list[int]) -> NoReturn:
    """Fork the engine and tell how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = files
    pid = os.fork()
    if pid == 0:
        os.close(status)
        for number, file in enumerate(streams):
            os.dup2(file, number)
            os.close(file)
        become_engine(**asked)
    for file in streams:
        os.close(file)
    os.write(status, f"{pid}\n".encode())
    _pid, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def become_engine(*, arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Run the engine in this process."""
    from tests.quick_forecasts import use_quick_forecasts  # Not above: it imports torch.

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    use_quick_forecasts()
    sys.exit(worker.main(arguments))


if __name__ == "__main__":
    main(int(sys.argv[1]))

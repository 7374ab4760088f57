"""Runs pip in the environment, and turns what it prints into progress and into one sentence."""

import os
import queue
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from installer.console import Console
from installer.environment import Environment
from installer.failures import SetupFailedError, pip_failure
from installer.versions import release

LOG_NAME = "headroom-setup.log"
# From here on pip can report how far a download is in a form meant for programs.
_RAW_PROGRESS_SINCE = (24, 1)
_TICK_S = 0.5

_DOWNLOAD = re.compile(r"Downloading \S*?([A-Za-z0-9_.]+)-(\d[^-\s]*)-\S+\.whl\S* \(([^)]+)\)")
_COLLECT = re.compile(r"Collecting ([A-Za-z0-9_.-]+)")
_INSTALL = re.compile(r"Installing collected packages: (.+)")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(slots=True)
class PipOutput:
    """Understands pip's output line by line."""

    _download: str = ""

    def detail(self, line: str) -> str:
        """What pip is doing now, in words; empty when the line tells nothing new."""
        if match := _PROGRESS.search(line):
            done, total = int(match[1]), int(match[2])
            return f"{self._download}, {100 * done // total} %" if total and self._download else ""
        if match := _DOWNLOAD.search(line):
            self._download = f"downloading {match[1]} {match[2]} ({match[3]})"
            return self._download
        if match := _COLLECT.search(line):
            return f"looking up {match[1]}"
        if match := _INSTALL.search(line):
            count = match[1].count(",") + 1
            return f"unpacking {count} packages" if count > 1 else f"unpacking {match[1]}"
        return ""


class Pip:
    """pip of one environment.

    Attributes:
        env: The environment.
        console: Shows what it is doing.
        log: Everything it printed, for when something goes wrong.
    """

    def __init__(self, env: Environment, console: Console) -> None:
        self.env = env
        self.console = console
        self.log = env.folder / LOG_NAME

    def install(self, *arguments: str, doing: str) -> None:
        """Run `pip install`.

        Args:
            arguments: Behind `install`.
            doing: What for, as it stands in a sentence: "installing PyTorch".

        Raises:
            SetupFailedError: It failed.
        """
        output = PipOutput()
        lines: list[str] = []
        # pip keeps all downloads in the temporary folder until the last has come; where that is
        # kept in memory, a CUDA build does not fit. Here the space was checked.
        temporary = self.env.folder / "setup-tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        variables = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
        # A setting for installing outside of environments, which pip would refuse in one.
        variables["PIP_USER"] = "0"
        try:
            exit_code = self._run(
                self._command(arguments), {**os.environ, **variables}, output, lines
            )
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if exit_code != 0:
            raise pip_failure("\n".join(lines), doing=doing, log=self.log)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        version = release(self.env.installed_version("pip"))
        progress = ["--progress-bar", "raw"] if version >= _RAW_PROGRESS_SINCE else []
        return [
            str(self.env.python),
            *("-m", "pip", "install", "--no-input", "--disable-pip-version-check"),
            *("--no-warn-script-location", "--no-color"),
            *progress,
            *arguments,
        ]

    def _run(
        self, command: list[str], variables: dict[str, str], output: PipOutput, lines: list[str]
    ) -> int:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env={**variables, "PYTHONIOENCODING": "utf-8"},
            )
        except OSError as error:
            raise SetupFailedError(f"pip could not be started: {error}.") from error
        assert process.stdout is not None
        received: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process.stdout, received), daemon=True).start()
        try:
            with self.log.open("a", encoding="utf-8") as log:
                while (line := self._next_line(received)) is not None:
                    lines.append(line)
                    log.write(f"{line}\n")
                    if detail := output.detail(line):
                        self.console.detail(detail)
            return process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise

    def _next_line(self, received: "queue.SimpleQueue[str | None]") -> str | None:
        while True:
            try:
                return received.get(timeout=_TICK_S)
            except queue.Empty:
                # Unpacking prints nothing for minutes; the clock shows that it goes on.
                self.console.tick()


def _read_lines(stream: IO[str], received: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            received.put(line.rstrip("\n"))
    received.put(None)


def upgrade_pip(pip: Pip) -> None:
    """Bring a freshly made environment's pip to one that reports its progress.

    Raises:
        SetupFailedError: It failed; most often there is no network.
    """
    if release(pip.env.installed_version("pip")) < _RAW_PROGRESS_SINCE:
        pip.install("--upgrade", "pip>=24.1", doing="updating pip")


def remove_log(folder: Path) -> None:
    """Start the log afresh."""
    (folder / LOG_NAME).unlink(missing_ok=True)

"""The engine client against real processes: small scripts that speak the protocol, or do not."""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.core.events import EngineReady, JobCancelled
from app.engine import client as client_module
from app.engine.client import LOG_TAIL_LINES, EngineEnded, EngineMessage, ProcessEngineClient
from app.engine.own_python import without_launcher
from app.engine.protocol import PROTOCOL_VERSION, CancelJob, Hello

PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]

PREAMBLE = """
import os, sys, time
from app.core.events import EngineReady, JobCancelled
from app.engine.protocol import PROTOCOL_VERSION, CancelJob, Hello, Shutdown, encode, read_message
def say(message):
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()
def hear():
    return read_message(sys.stdin.buffer)
def hello(version=PROTOCOL_VERSION):
    say(Hello(protocol_version=version, app_version="0.1.0"))
"""
OBEDIENT = """
hello()
while (message := hear()) is not None and not isinstance(message, Shutdown):
    if isinstance(message, CancelJob):
        say(JobCancelled(job_id=message.job_id))
"""


class Engine:
    """A client whose process runs a script.

    Attributes:
        client: What is tested.
        messages: What it delivered and nobody took yet.
    """

    def __init__(self, script: str) -> None:
        self.messages: queue.Queue[EngineMessage] = queue.Queue()
        program = PREAMBLE + textwrap.dedent(script)
        self.client = ProcessEngineClient(
            self.messages.put, command=[sys.executable, "-c", program]
        )
        self.client.start()

    def next(self) -> EngineMessage:
        return self.messages.get(timeout=PATIENCE_S)

    def end(self) -> EngineEnded:
        """The end, which must be the next and last thing told."""
        ended = self.next()
        assert isinstance(ended, EngineEnded)
        assert self.client.wait(PATIENCE_S)
        assert self.messages.empty()
        return ended


@pytest.fixture
def run() -> Iterator[Callable[[str], Engine]]:
    engines: list[Engine] = []

    def start(script: str) -> Engine:
        engines.append(Engine(script))
        return engines[-1]

    yield start
    for engine in engines:
        engine.client.kill()
        engine.client.wait()


def test_hello_comes_first_and_commands_are_answered(run: Callable[[str], Engine]) -> None:
    engine = run(OBEDIENT)
    assert engine.next() == Hello(protocol_version=PROTOCOL_VERSION, app_version="0.1.0")
    engine.client.send(CancelJob(job_id="a"))
    assert engine.next() == JobCancelled(job_id="a")
    engine.client.stop()
    assert engine.end() == EngineEnded(exit_code=0)


def test_pid_is_that_of_the_process(run: Callable[[str], Engine]) -> None:
    engine = run(
        "hello()\n"
        "say(EngineReady(pid=os.getpid(), device='cpu', device_name='', torch_version='',"
        " diffusers_version=''))\nhear()"
    )
    engine.next()
    ready = engine.next()
    assert isinstance(ready, EngineReady)
    assert engine.client.pid == ready.pid
    engine.client.stop()


def test_stop_is_idempotent_and_works_before_start(run: Callable[[str], Engine]) -> None:
    client = ProcessEngineClient(lambda message: None, command=["unused"])
    client.stop()
    client.kill()
    assert client.pid is None
    assert client.wait()
    engine = run(OBEDIENT)
    engine.client.stop()
    engine.client.stop()


def test_a_program_that_does_not_exist_raises_os_error() -> None:
    client = ProcessEngineClient(lambda message: None, command=["/nowhere/engine"])
    with pytest.raises(OSError, match="nowhere"):
        client.start()


def test_stop_terminates_what_does_not_end_when_asked(run: Callable[[str], Engine]) -> None:
    engine = run("hello()\nwhile True: time.sleep(60)")
    engine.next()
    engine.client.stop(grace_s=0.01)
    ended = engine.end()
    if os.name == "posix":
        assert ended.exit_code == -signal.SIGTERM


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.slow
def test_stop_kills_what_ignores_terminate(run: Callable[[str], Engine]) -> None:
    engine = run(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nhello()\n"
        "while True: time.sleep(60)"
    )
    engine.next()
    engine.client.stop(grace_s=0.01)
    assert engine.end().exit_code == -signal.SIGKILL


def test_a_crash_is_told_with_exit_code_and_last_lines(run: Callable[[str], Engine]) -> None:
    engine = run(
        """
        hello()
        for number in range(300):
            print("line", number, file=sys.stderr)
        sys.stderr.buffer.write(b"not utf-8: \\xff\\n\\n")
        sys.exit(7)
        """
    )
    engine.next()
    ended = engine.end()
    assert ended.exit_code == 7
    lines = ended.log_tail.splitlines()
    assert len(lines) == LOG_TAIL_LINES
    assert lines[0] == "line 101"
    assert lines[-1] == "not utf-8: \N{REPLACEMENT CHARACTER}"


def test_stderr_is_logged(run: Callable[[str], Engine], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="engine"):
        engine = run("print('driver says hm', file=sys.stderr)\nhello()")
        engine.next()
        engine.end()
    assert ("engine.process", "driver says hm") in [
        (record.name, record.message) for record in caplog.records
    ]


def test_kill_ends_it_at_once(run: Callable[[str], Engine]) -> None:
    engine = run("hello()\nwhile True: time.sleep(60)")
    engine.next()
    engine.client.kill()
    ended = engine.end()
    assert ended.exit_code != 0
    assert ended.error is None


def test_a_process_that_ends_before_hello_is_just_ended(run: Callable[[str], Engine]) -> None:
    ended = run("sys.exit('no torch here')").end()
    assert ended.exit_code == 1
    assert "no torch here" in ended.log_tail


def test_another_protocol_version_is_refused_with_a_sentence(run: Callable[[str], Engine]) -> None:
    ended = run("hello(version=99)\nwhile True: time.sleep(60)").end()
    assert ended.error is not None
    assert ended.error.code == "engine.version"
    assert "99" in ended.error.details


@pytest.mark.parametrize(
    "bytes_written",
    [b"Warning: a library prints to stdout\n", b"\x05\x00\x00\x00hello", b"\xff\xff\xff\xff"],
)
def test_bytes_that_are_no_message_end_the_process(
    run: Callable[[str], Engine], bytes_written: bytes
) -> None:
    engine = run(
        f"hello()\nsys.stdout.buffer.write({bytes_written!r})\nsys.stdout.flush()\n"
        "while True: time.sleep(60)"
    )
    engine.next()
    ended = engine.end()
    assert ended.error is not None
    assert ended.error.code == "engine.protocol"


def test_a_first_message_that_is_no_hello_is_refused(run: Callable[[str], Engine]) -> None:
    ended = run("say(JobCancelled(job_id='a'))\nwhile True: time.sleep(60)").end()
    assert ended.error is not None
    assert ended.error.code == "engine.protocol"


def test_half_a_message_at_the_end_is_just_the_end(run: Callable[[str], Engine]) -> None:
    engine = run(
        "hello()\nsys.stdout.buffer.write(encode(Hello(protocol_version=1, app_version='x'))[:-3])"
    )
    engine.next()
    assert engine.end() == EngineEnded(exit_code=0)


def test_telling_a_dead_process_something_does_nothing(run: Callable[[str], Engine]) -> None:
    engine = run("hello()")
    engine.next()
    engine.end()
    engine.client.send(CancelJob(job_id="a"))
    engine.client.stop()


def test_what_the_child_is_told_about_where_it_is(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[str], Engine], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADROOM_HOME", "home")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    engine = run(
        """
        import json
        told = [os.environ["HEADROOM_HOME"], os.environ["PYTHONPATH"]]
        print(json.dumps(told), file=sys.stderr)
        hello()
        """
    )
    engine.next()
    home, path = json.loads(engine.end().log_tail)
    assert home == str(tmp_path.resolve() / "home")
    assert path.split(os.pathsep) == [str(ROOT), "elsewhere"]


@pytest.mark.parametrize(
    ("platform", "program", "base", "started"),
    [
        ("win32", "C:\\venv\\python.exe", "C:\\Python\\python.exe", "C:\\Python\\python.exe"),
        # Without an environment there is no launcher.
        ("win32", "C:\\venv\\python.exe", "C:\\venv\\python.exe", "C:\\venv\\python.exe"),
        ("win32", "C:\\tool.exe", "C:\\Python\\python.exe", "C:\\tool.exe"),
        ("linux", "C:\\venv\\python.exe", "C:\\Python\\python.exe", "C:\\venv\\python.exe"),
    ],
)
def test_the_launcher_of_a_virtual_environment_is_left_out(
    platform: str, program: str, base: str, started: str
) -> None:
    own = "C:\\venv\\python.exe"
    found, told = without_launcher(program, platform=platform, own=own, base=base)
    assert found == started
    assert told == ({} if started == program else {"__PYVENV_LAUNCHER__": own})


def test_what_stands_for_the_launcher_is_started(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[str], Engine]
) -> None:
    def without(program: str) -> tuple[str, dict[str, str]]:
        return program, {"HEADROOM_TOLD": "in an environment"}

    monkeypatch.setattr(client_module, "without_launcher", without)
    engine = run("print(os.environ['HEADROOM_TOLD'], file=sys.stderr); hello()")
    engine.next()
    assert engine.end().log_tail == "in an environment"


@pytest.mark.skipif(os.name != "posix", reason="sessions")
def test_the_child_is_in_a_session_of_its_own(run: Callable[[str], Engine]) -> None:
    engine = run(OBEDIENT)
    engine.next()
    assert engine.client.pid is not None
    assert os.getsid(engine.client.pid) == engine.client.pid
    engine.client.stop()


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = PREAMBLE + OBEDIENT
    parent = textwrap.dedent(
        f"""
        import sys, threading
        from app.engine.client import ProcessEngineClient
        from app.engine.protocol import Hello
        ready = threading.Event()
        command = [sys.executable, "-c", {child!r}]
        client = ProcessEngineClient(lambda message: ready.set(), command=command)
        client.start()
        ready.wait()
        print(client.pid, flush=True)
        threading.Event().wait()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        engine = psutil.Process(int(process.stdout.readline()))
        process.kill()
    engine.wait(PATIENCE_S)

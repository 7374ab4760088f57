"""Have an engine process measure the machine, from outside, without torch here."""

import contextlib
import logging
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TypeVar

from app.core.bench_result import BenchResult
from app.core.errors import EngineCrashedError, EngineError, SetupError
from app.core.events import BenchDone, CalibrationDone, EngineLog, EngineReady
from app.core.log import forward_engine_log
from app.core.machine_speeds import MachineSpeeds
from app.engine.client import EngineClient, EngineEnded, EngineMessage, StartEngine
from app.engine.protocol import Bench, Calibrate
from app.engine.session import (
    HELLO_DEADLINE_S,
    MEASURING_DEADLINE_S,
    READY_DEADLINE_S,
    SETUP_CODE,
)

POLL_S = 0.2
"""Windows tells of Ctrl+C only between two waits."""

_Wanted = TypeVar("_Wanted", EngineReady, CalibrationDone, BenchDone)
OwnBytes = Callable[[int], int | None]
"""Device memory of a process, as the driver tells it; None where it does not."""


def measure_with_engine(
    start: StartEngine,
    command: Calibrate,
    *,
    own_bytes: OwnBytes,
    clock: Callable[[], float] = time.monotonic,
) -> MachineSpeeds:
    """Start an engine, let it measure, and end it; no other may be working meanwhile.

    Args:
        start: Makes the process.
        command: What is to be measured.
        own_bytes: Asked once while the engine idles, for what it holds besides tensors.
        clock: Monotonic, in seconds.

    Raises:
        SetupError: The engine cannot be started here.
        EngineError: It failed, or did not answer.
    """
    with _answered(start, command, CalibrationDone, clock) as (client, done):
        if done.speeds is not None:
            return _with_context(done.speeds, client, own_bytes)
    message = "unknown" if done.error is None else done.error.message
    raise EngineError(f"The machine could not be measured: {message}", code="engine.calibration")


def bench_with_engine(
    start: StartEngine, *, clock: Callable[[], float] = time.monotonic
) -> BenchResult:
    """Start an engine, have it do the short bench, and end it; no other may work meanwhile.

    Args:
        start: Makes the process.
        clock: Monotonic, in seconds.

    Raises:
        SetupError: The engine cannot be started here.
        EngineError: It failed, or did not answer.
    """
    with _answered(start, Bench(), BenchDone, clock) as (_client, done):
        if done.result is not None:
            return done.result
    message = "unknown" if done.error is None else done.error.message
    raise EngineError(f"The bench failed: {message}", code="engine.bench")


@contextlib.contextmanager
def _answered(
    start: StartEngine,
    command: Calibrate | Bench,
    answer: type[_Wanted],
    clock: Callable[[], float],
) -> Generator[tuple[EngineClient, _Wanted]]:
    """An engine of one's own that has done what it was asked; it ends with the context."""
    messages: SimpleQueue[EngineMessage] = SimpleQueue()
    client = _begin(start, messages)
    try:
        _next(messages, EngineReady, clock() + HELLO_DEADLINE_S + READY_DEADLINE_S, clock)
        client.send(command)
        yield client, _next(messages, answer, clock() + MEASURING_DEADLINE_S, clock)
    except KeyboardInterrupt:
        # It looks at no command while it measures, and has nothing to save.
        client.kill()
        raise
    finally:
        client.stop()


def _begin(start: StartEngine, messages: SimpleQueue[EngineMessage]) -> EngineClient:
    try:
        return start(messages.put)
    except OSError as error:
        raise SetupError(
            f"The engine cannot be started ({error.strerror or error}): "
            "run “headroom doctor” to see what is wrong.",
            code="engine.start",
        ) from error


def _with_context(
    speeds: MachineSpeeds, client: EngineClient, own_bytes: OwnBytes
) -> MachineSpeeds:
    """With what the driver counts for the process beyond torch's own memory."""
    if speeds.reserved_bytes is None or client.pid is None:
        return speeds
    counted = own_bytes(client.pid)
    if counted is None or counted <= speeds.reserved_bytes:
        return speeds
    return replace(speeds, context_bytes=counted - speeds.reserved_bytes)


def _next(
    messages: SimpleQueue[EngineMessage],
    kind: type[_Wanted],
    deadline_s: float,
    clock: Callable[[], float],
) -> _Wanted:
    last_words = ""
    while clock() < deadline_s:
        try:
            message = messages.get(timeout=POLL_S)
        except Empty:
            continue
        if isinstance(message, kind):
            return message
        if isinstance(message, EngineLog):
            forward_engine_log(message)
            if message.level >= logging.CRITICAL:
                last_words = message.message.partition("\n")[0]
        elif isinstance(message, EngineEnded):
            raise _death(message, last_words if kind is EngineReady else "")
    raise EngineError(
        "The engine does not answer: the disk or the GPU driver may be stuck.",
        code="engine.start_timeout",
    )


def _death(ended: EngineEnded, last_words: str) -> EngineError:
    if ended.error is not None:
        return EngineError(ended.error.message, code=ended.error.code, details=ended.log_tail)
    if last_words:  # It could not begin, and said why.
        return EngineError(last_words, code=SETUP_CODE, details=ended.log_tail)
    sentence = f"The engine ended unexpectedly (exit code {ended.exit_code})."
    return EngineCrashedError(sentence, details=ended.log_tail)

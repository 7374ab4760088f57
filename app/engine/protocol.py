"""Messages between the app and the engine process: frozen dataclasses as msgpack, length first.

Frame: 4 bytes little-endian length, then a msgpack array [message name, message].
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, get_args

import msgspec

from app.core.errors import ProtocolError
from app.core.events import EngineEvent
from app.core.jobs import Job
from app.core.policy import Budget

PROTOCOL_VERSION = 3
MAX_FRAME_BYTES = 1 << 30
"""Larger than any message: an 8192 px PNG that could not be saved is below 300 MB."""
BROKEN_DEVICE_EXIT = 70
"""The exit code of an engine that ended itself because its device broke."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of the engine: which protocol it speaks."""

    protocol_version: int
    app_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    """Work on this job now. The engine has one job at a time.

    Attributes:
        job: To work on.
        keep_folder: Absolute path of the folder where its latents are kept while it runs, so that
            another engine can go on with it; "" keeps them in memory only.
    """

    job: Job
    keep_folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJob:
    """Stop this job at the next step or phase boundary; unknown ids are ignored."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelieveJob:
    """Take less memory: weights leave before the next block, the rest follows at the next step.

    Attributes:
        job_id: Of the job; unknown ids are ignored.
        device_bytes: How much less is wanted on the device; 0 where only RAM is short.
        host_bytes: How much less is wanted of the computer's RAM.
        reason: One sentence: what was seen.
    """

    job_id: str
    device_bytes: int
    host_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBudget:
    """The user lets a running job use more or less of the device, from its next block on.

    Only where weights are changes, never the picture.

    Attributes:
        job_id: Of the job; unknown ids are ignored.
        budget: In place of that of the job's policy.
    """

    job_id: str
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferMemory:
    """Memory that others used is free again, and stays so: weights may have it.

    Attributes:
        job_id: Of the job; unknown ids are ignored.
        reason: One sentence: what was seen.
    """

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate:
    """Measure how fast the machine is, when no job runs; answered by `CalibrationDone`.

    Attributes:
        model_folders: Absolute paths of models, whose disk is measured.
        scratch_folder: Absolute path where a temporary file may be written instead.
    """

    model_folders: tuple[str, ...]
    scratch_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Stream random weights for some seconds, when no job runs; answered by `BenchDone`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """End the process when nothing is running; a running job is cancelled first."""


Command = (
    RunJob | CancelJob | RelieveJob | ChangeBudget | OfferMemory | Calibrate | Bench | Shutdown
)
_MESSAGES: dict[str, type[Any]] = {
    message.__name__: message for message in (Hello, *get_args(Command), *get_args(EngineEvent))
}
_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


def encode(message: Any) -> bytes:  # noqa: ANN401 - any of the messages above
    """One frame.

    Raises:
        ProtocolError: The message is none of the protocol's.
    """
    name = type(message).__name__
    if _MESSAGES.get(name) is not type(message):
        raise ProtocolError(f"The engine cannot be told {name}; please report this.")
    body = _encoder.encode((name, message))
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Any:  # noqa: ANN401 - any of the messages above
    """The message of a frame's body.

    Raises:
        ProtocolError: The bytes are no message of this protocol.
    """
    try:
        name, raw = _envelope.decode(body)
        kind = _MESSAGES[name]
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise ProtocolError(
            "The engine sent something that cannot be understood; it will be restarted.",
            details=str(error),
        ) from error


def read_message(stream: BinaryIO | io.RawIOBase) -> Any | None:  # noqa: ANN401 - see decode
    """The next message, or None at the end of the stream, also in the middle of a frame.

    Raises:
        ProtocolError: The bytes are no message of this protocol.
    """
    header = _read_exactly(stream, _LENGTH.size)
    if header is None:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(
            "The engine sent something that cannot be understood; it will be restarted.",
            details=f"frame of {length} bytes",
        )
    body = _read_exactly(stream, length)
    return None if body is None else decode(body)


def _read_exactly(stream: BinaryIO | io.RawIOBase, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = stream.read(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)

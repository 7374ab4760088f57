"""Every error a user can meet, as one tree.

    AppError                    has a stable `code` and a sentence: what happened, what to do
    +-- RequestError            the request cannot be run as it is written
    +-- ModelError              a model folder cannot be used
    +-- OutputError             an image cannot be written where it should go
    +-- EngineError             the engine could not finish a job
    |   +-- OutOfVramError      the device has too little memory left
    |   +-- EngineCrashedError  the engine process ended by itself
    |   +-- ProtocolError       engine and window do not understand each other
    +-- SetupError              something on this machine is missing

Cancelling is not an error: it has an exception of its own in the engine and an event outside.
"""

import traceback
from dataclasses import dataclass

OUT_OF_MEMORY_CODE = "engine.out_of_memory"
DOES_NOT_FIT_CODE = "engine.does_not_fit"
LACK_OF_MEMORY_CODES = frozenset({OUT_OF_MEMORY_CODE, DOES_NOT_FIT_CODE})
"""Of jobs that may go on where they were, once there is memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An error as plain data, as it leaves the engine process.

    Attributes:
        code: Stable and meant for programs, like "model.pickle".
        message: One sentence for people: what happened and what to do.
        details: More for the curious; may be empty.
        traceback_text: For bug reports; empty where the cause is known.
    """

    code: str
    message: str
    details: str = ""
    traceback_text: str = ""


class AppError(Exception):
    """Base of all errors that reach the user.

    Attributes:
        code: Stable and meant for programs.
        message: One sentence for people: what happened and what to do.
        details: More for the curious; may be empty.
    """

    default_code = "app"

    def __init__(self, message: str, *, code: str | None = None, details: str = "") -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.details = details

    def info(self) -> ErrorInfo:
        """The error as plain data, without a traceback: its cause is known."""
        return ErrorInfo(code=self.code, message=self.message, details=self.details)


class RequestError(AppError):
    """The request cannot be run as it is written."""

    default_code = "request"


class ModelError(AppError):
    """A model folder cannot be used."""

    default_code = "model"


class OutputError(AppError):
    """An image cannot be written where it should go."""

    default_code = "output"


class EngineError(AppError):
    """The engine could not finish a job."""

    default_code = "engine"


class OutOfVramError(EngineError):
    """The device has too little memory left for the next phase."""

    default_code = OUT_OF_MEMORY_CODE


class EngineCrashedError(EngineError):
    """The engine process ended by itself; the last lines that it wrote are the details."""

    default_code = "engine.crashed"


class ProtocolError(EngineError):
    """Bytes on the engine's pipes are not a message, or come from another version."""

    default_code = "engine.protocol"


class SetupError(AppError):
    """Something on this machine is missing."""

    default_code = "setup"


def describe(error: BaseException) -> ErrorInfo:
    """Any exception as plain data; an unexpected one has the code "unexpected" and a traceback."""
    if isinstance(error, AppError):
        return error.info()
    text = "".join(traceback.format_exception(error))
    return ErrorInfo(
        code="unexpected",
        message=(
            f"Something unexpected went wrong ({type(error).__name__}); "
            "your settings are kept, and the log has the details."
        ),
        details=str(error),
        traceback_text=text,
    )

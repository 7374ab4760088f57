"""Telling that memory ran out, which the libraries say in many ways, and what to do then."""

import errno
from collections.abc import Iterator, Sequence

import torch
from safetensors import SafetensorError

from app.core.errors import OutOfVramError
from app.core.jobs import Phase

_DOING = {
    Phase.LOAD: "while the model was loaded",
    Phase.ENCODE: "while the prompt was encoded",
    Phase.DENOISE: "while denoising",
    Phase.DECODE: "while the latents were decoded",
    Phase.SAVE: "while the image was saved",
}
_CPU_TEXTS = (
    # torch's CPU allocator and C++ below it.
    "not enough memory",
    "can't allocate memory",
    "alloc_cpu",
    "bad_alloc",
    "bad alloc",
    # Files that cannot be mapped: torch with the system's words or number, and Rust's.
    "cannot allocate memory",
    "error code: <1455>",
    "os error 1455",
    # A thread's stack that cannot be had.
    "can't start new thread",
)
"""torch raises a plain RuntimeError with one of these, safetensors an error of its own."""
_PILLOW_TEXT = "out of memory"
"""In what Pillow raises as an OSError without a number."""
_DEVICE_TEXTS = (
    # torch's own allocator and the drivers, also when pinned memory cannot be had.
    "out of memory",
    "out_of_memory",
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    # torch, which asks NVML for words about it and is not answered, as with a MIG device.
    "nvml_success ==",
    # Libraries that find no room for their workspace; cuBLAS and hipBLAS name themselves before.
    "_status_alloc_failed",
    "device_allocation_failed",
    "host_allocation_failed",
    "miopenstatusallocfailed",
    "memory not available to allocate",
    # cuDNN, when no way to compute a convolution finds room for its workspace.
    "unable to find a valid cudnn algorithm",
    "unable to find an engine to execute",
    # No room for the library's handle: it says only that it could not begin.
    "blas_status_not_initialized",
    "cudnn_status_not_initialized",
    # Level Zero and SYCL.
    "out_of_device_memory",
    "out_of_host_memory",
    "out_of_resources",
    "mem_object_allocation_failure",
    # oneDNN.
    "could not create a memory object",
)
_WINDOWS_NO_PAGE_FILE = 1455
"""ERROR_COMMITMENT_LIMIT: the page file is too small for what is to be mapped."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, of the device or of the computer.

    Also one that was raised because of another: libraries tell what they could not do then.
    """
    return any(_is_of_host(one) or _is_of_device(one) for one in _chain(error))


def is_of_host(error: BaseException) -> bool:
    """Whether it was the computer's own memory that ran out."""
    return any(_is_of_host(one) for one in _chain(error))


def memory_name(*, of_host: bool) -> str:
    """What ran out, as the beginning of a sentence: "The GPU's memory"."""
    return "This computer's memory" if of_host else "The GPU's memory"


def out_of_memory_error(
    name: str,
    phase: Phase,
    *,
    details: str,
    strict: bool = False,
    missing: Sequence[str] = (),
) -> OutOfVramError:
    """The error as users should read it, once nothing is left to try.

    Args:
        name: What ran out; see `memory_name`.
        phase: In which.
        details: What the library said.
        strict: Whether fewer images and smaller sizes were not allowed to be tried.
        missing: What the planner says of the request with what is free now, where it does not fit.
    """
    if missing:
        return OutOfVramError(" ".join((ran_out_sentence(name, phase), *missing)), details=details)
    if phase is Phase.LOAD:
        remedy = "close other programs, or choose a smaller model"
    elif strict and phase in (Phase.DENOISE, Phase.DECODE):
        remedy = (
            "strict mode forbids fewer images and smaller sizes, so close other programs, "
            "choose a smaller size, or switch strict mode off"
        )
    else:
        remedy = "choose a smaller size or fewer images, or close other programs"
    return OutOfVramError(
        f"{name} ran out {_DOING[phase]}: {remedy}, then generate again.", details=details
    )


def ran_out_sentence(name: str, phase: Phase) -> str:
    """One sentence that says what happened: "The GPU's memory ran out while denoising."."""
    return f"{name} ran out {_DOING[phase]}."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_device(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _DEVICE_TEXTS)


def _is_of_host(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        too_little = getattr(error, "winerror", None) == _WINDOWS_NO_PAGE_FILE
        by_pillow = error.errno is None and _PILLOW_TEXT in str(error).lower()
        return error.errno == errno.ENOMEM or too_little or by_pillow
    text = str(error).lower()
    told = isinstance(error, RuntimeError | SafetensorError)
    return told and any(part in text for part in _CPU_TEXTS)

"""Telling that memory ran out, which the libraries say in several ways, and what to do then."""

import torch

from app.core.errors import OutOfVramError
from app.core.jobs import Phase

_DOING = {
    Phase.LOAD: "while the model was loaded",
    Phase.ENCODE: "while the prompt was encoded",
    Phase.DENOISE: "while denoising",
    Phase.DECODE: "while the latents were decoded",
    Phase.SAVE: "while the image was saved",
}
_CPU_TEXTS = ("not enough memory", "can't allocate memory", "alloc_cpu")
"""torch's CPU allocator raises a plain RuntimeError with one of these."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(part in text for part in _CPU_TEXTS)


def out_of_memory_error(error: BaseException, phase: Phase, device: torch.device) -> OutOfVramError:
    """The error as users should read it."""
    on_cpu = device.type == "cpu" or isinstance(error, MemoryError)
    where = "This computer's memory ran out" if on_cpu else "The GPU's memory ran out"
    if phase is Phase.LOAD:
        remedy = "close other programs, or choose a smaller model"
    else:
        remedy = "choose a smaller size or fewer images, or close other programs"
    return OutOfVramError(
        f"{where} {_DOING[phase]}: {remedy}, then generate again.", details=str(error)
    )

"""From a plan's precisions to the types that weights are loaded in, and what is quantized."""

import torch

from app.core.plan import GenerationPlan
from app.core.policy import MemoryPolicy, Precision
from app.engine.compute_device import ComputeDevice
from app.engine.devices import run_dtype
from app.engine.planning.components import AUTOENCODER, TEXT_ENCODER, TRANSFORMER
from app.engine.quantize.recipe import QUANTIZED, Recipe

_FOLDERS = {TEXT_ENCODER: "text_encoder", TRANSFORMER: "transformer", AUTOENCODER: "vae"}
_HALVES = (torch.bfloat16, torch.float16)


def dtypes_of(
    plan: GenerationPlan, policy: MemoryPolicy, stored: dict[str, str], device: ComputeDevice
) -> dict[str, torch.dtype]:
    """The type of each network's weights, by folder; of those that are not quantized.

    Args:
        plan: To carry out.
        policy: Where it says nothing, the CPU runs each network as it is stored.
        stored: Name of the type by folder; see `app.engine.model_folder.stored_dtypes`.
        device: To run on.
    """
    wanted = {
        TEXT_ENCODER: policy.precisions.text_encoder,
        TRANSFORMER: policy.precisions.transformer,
        AUTOENCODER: policy.precisions.autoencoder,
    }
    found: dict[str, torch.dtype] = {}
    for name, folder in _FOLDERS.items():
        own: torch.dtype = getattr(torch, stored[folder])
        if wanted[name] is Precision.AUTO and device.kind == "cpu":
            found[folder] = own
        else:
            found[folder] = _dtype(plan.component(name).precision, own, device)
    return found


def recipes_of(plan: GenerationPlan) -> dict[str, Recipe]:
    """How the networks of a plan are quantized, by folder; without those that are not.

    The autoencoder never is: it is small, and each of its layers shows in the picture. Nor is what
    others have quantized.
    """
    chosen = (plan.component(name) for name in (TEXT_ENCODER, TRANSFORMER))
    return {
        _FOLDERS[one.name]: Recipe(precision=one.precision)
        for one in chosen
        if one.precision in QUANTIZED and not one.stored_as
    }


def _dtype(precision: Precision, stored: torch.dtype, device: ComputeDevice) -> torch.dtype:
    if precision is Precision.FP32:
        return torch.float32
    if device.kind == "cpu" and (precision in QUANTIZED or stored in _HALVES):
        return stored
    return run_dtype(device.torch_device, torch.bfloat16)

"""Weights that others stored in fp8, with or without scales, run as they are."""

from collections.abc import Mapping

import torch
from torch import nn

from app.core.errors import ModelError
from app.engine.quantize.linear import Fp8Linear
from app.engine.quantize.skeleton import named_modules
from app.engine.stored_weights import MappedFiles, Stored, StoredTensor

FP8_TYPES = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})
_SCALES = ("weight_scale", "scale_weight")
"""What a weight's scale is called beside it, by who wrote the file."""


def fp8_skeleton(network: nn.Module, stored: Stored) -> Stored:
    """Put fp8 layers in the place of those whose weights are stored so.

    Args:
        network: On "meta"; changed. Scales are few, and in RAM afterwards.
        stored: Its weights by the names of its tensors.

    Returns:
        The weights by the names of the changed network's tensors.

    Raises:
        ModelError: A scale has a form that is not known.
    """
    found = dict(stored)
    files = MappedFiles()
    for name, linear in list(named_modules(network)):
        weight = stored.get(f"{name}.weight")
        if weight is None or weight.dtype not in FP8_TYPES or not isinstance(linear, nn.Linear):
            continue
        layer = Fp8Linear(
            linear.in_features,
            linear.out_features,
            torch.empty(weight.shape, dtype=weight.dtype, device="meta"),
            _row_scales(name, weight, stored, files),
            linear.bias,
        )
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, layer)
        found[f"{name}.codes"] = found.pop(f"{name}.weight")
    return found


def _row_scales(
    name: str, weight: StoredTensor, stored: Mapping[str, StoredTensor], files: MappedFiles
) -> torch.Tensor:
    """One scale a row, as the layer has it; 1 where the weight was only rounded."""
    rows = weight.shape[0]
    scale = next((stored[key] for end in _SCALES if (key := f"{name}.{end}") in stored), None)
    if scale is None:
        return torch.ones(rows, 1)
    values = files.tensor(scale).float().reshape(-1)
    if values.numel() not in (1, rows):
        raise ModelError(
            f"The fp8 weights in {weight.path} have scales of a kind that cannot be run "
            "(one for the whole weight, or one for each row, can): use the model's bf16 folder.",
            code="model.unknown_config",
            details=f"{name}: {scale.shape} for {weight.shape}",
        )
    return values.expand(rows).reshape(rows, 1).clone()

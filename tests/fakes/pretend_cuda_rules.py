"""What CUDA refuses though the CPU would do it, and what makes the host wait."""

from collections.abc import Sequence
from typing import Any

import torch

COPIES = frozenset({"copy_", "_to_copy"})
"""Between devices."""
_TAKE_INDICES_IN_RAM = frozenset(
    {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
)
_ASK = {"_local_scalar_dense": "item", "nonzero": "nonzero", "masked_select": "masked_select"}
"""What needs an answer of the device."""
_FP8_ARGUMENTS = (
    "self", "mat2", "scale_a", "scale_b", "bias", "scale_result", "out_dtype", "use_fast_accum",
)  # fmt: skip
_LEAST_ROWS = 16
_INT_MULTIPLE = 8
_FP8_MULTIPLE = 16


def check_devices(name: str, in_ram: Sequence[torch.Tensor]) -> None:
    """Refuse to compute with some tensors in RAM beside others on the device.

    Args:
        name: Of the operation.
        in_ram: Tensors on the CPU that it was given.

    Raises:
        RuntimeError: As torch refuses it.
    """
    if name in COPIES or name in _TAKE_INDICES_IN_RAM:
        return
    if any(one.dim() or one.device.type != "cpu" for one in in_ram):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and {in_ram[0].device}! (when checking arguments of {name})"
        )


def why_host_waits(name: str, args: Sequence[Any], in_ram: Sequence[torch.Tensor]) -> str:
    """What makes the host wait in an operation, or ""; copies are not looked at here."""
    if name in _TAKE_INDICES_IN_RAM:
        indices = [one for one in args[1] if isinstance(one, torch.Tensor)]
        if any(one.dtype is torch.bool for one in indices):
            return "a mask as an index"
        return "an index in RAM" if any(one.dim() for one in in_ram) else ""
    return _ASK.get(name, "")


def check_product(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Refuse matrix products in 8 bits as cuBLAS does.

    Args:
        name: Of the operation.
        args: Its tensors as they are in RAM.
        kwargs: The same.

    Raises:
        RuntimeError: As torch refuses it.
    """
    if name == "_int_mm":
        _check_int(args[0], args[1])
    elif name == "_scaled_mm":
        given = {**dict(zip(_FP8_ARGUMENTS, args, strict=False)), **kwargs}
        _check_fp8(args[0], args[1], given["scale_a"], given["scale_b"], given.get("out_dtype"))


def _check_int(left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype is not torch.int8 or right.dtype is not torch.int8:
        raise RuntimeError("Expected self and mat2 to be of type int8")
    if left.shape[0] <= _LEAST_ROWS:
        raise RuntimeError(f"self.size(0) needs to be greater than 16, but got {left.shape[0]}")
    if left.shape[1] == 0 or left.shape[1] % _INT_MULTIPLE:
        raise RuntimeError("self.size(1) needs to be greater than 0 and a multiple of 8")
    if right.shape[1] == 0 or right.shape[1] % _INT_MULTIPLE:
        raise RuntimeError("mat2.size(1) needs to be greater than 0 and a multiple of 8")


def _check_fp8(
    left: torch.Tensor,
    right: torch.Tensor,
    left_scale: torch.Tensor,
    right_scale: torch.Tensor,
    out: torch.dtype | None,
) -> None:
    rows, inner = left.shape
    columns = right.shape[1]
    if left.stride() != (inner, 1):
        raise RuntimeError("mat1 must be row_major")
    if right.stride(0) != 1 or right.stride(1) != inner:
        raise RuntimeError("mat2 must be col_major")
    if inner % _FP8_MULTIPLE or columns % _FP8_MULTIPLE:
        raise RuntimeError(f"mat2 shape ({inner}x{columns}) must be divisible by 16")
    if left_scale.dtype is not torch.float32 or right_scale.dtype is not torch.float32:
        raise RuntimeError("scale_a and scale_b must both be float (fp32) tensors.")
    if left_scale.numel() == 1 and right_scale.numel() == 1:
        return
    if left_scale.shape != (rows, 1) or right_scale.shape != (1, columns):
        raise RuntimeError("For RowWise scaling, scale_a should be (M, 1) and scale_b (1, N)")
    if not (left_scale.is_contiguous() and right_scale.is_contiguous()):
        raise RuntimeError("Both scale_a and scale_b must be contiguous for RowWise scaling.")
    if out not in {torch.bfloat16, torch.float16}:
        raise RuntimeError("Only bf16 and fp16 high precision output types are supported")


def check_attention(query: torch.Tensor, mask: torch.Tensor | None) -> None:
    """Refuse attention where none of the kinds that are switched on can compute it.

    Raises:
        RuntimeError: As torch refuses it.
    """
    kinds: Any = torch.backends.cuda
    in_half = query.dtype in {torch.float16, torch.bfloat16}
    fits = (
        (kinds.flash_sdp_enabled() and in_half and mask is None)
        or (kinds.cudnn_sdp_enabled() and in_half)
        or kinds.mem_efficient_sdp_enabled()
        or kinds.math_sdp_enabled()
    )
    if not fits:
        raise RuntimeError("No available kernel. Aborting execution.")

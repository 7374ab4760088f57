"""Operations that GPUs do in one kernel, where tensors without data would go the long way.

The dry run must allocate what a GPU's kernel allocates. Assumptions, by name:

- "fused attention": scaled_dot_product_attention makes its output and one fp32 number a row and
  head (aten's _scaled_dot_product_flash_attention and _efficient_attention). The efficient kernel,
  which serves fp32, masks and heads wider than 256, sums up in an fp32 buffer of the output's size
  when the output is narrower than fp32 and a head is wider than 128
  (kNeedsOutputAccumulatorBuffer in aten's kernel_forward.h).
- "math attention": scores and weights are whole matrices, as aten's
  _scaled_dot_product_attention_math has them: where no fused kernel serves.
- "attention in parts": what `app.engine.attention.chunks` says beside the output.
- "fused RMS norm": its output and one fp32 number a row (aten's _fused_rms_norm on CUDA).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from app.core.policy import Attention
from app.engine.attention.chunks import chunk_bytes

Function = Any
"""A function of torch, or an operator: neither has a type."""
_FLASH_HEAD_WIDTH = 256
_REGISTER_HEAD_WIDTH = 128


class FusedKernels(TorchFunctionMode):
    """Replaces attention and RMS norm while it is active."""

    def __init__(self, attention: Attention = Attention.SDPA) -> None:
        super().__init__()
        self._attention = attention

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Run one function, or what stands in for it."""
        options = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention:
            return self._attend(*args, **options)
        if func in (torch.nn.functional.rms_norm, torch.rms_norm):
            return _rms_norm(*args, **options)
        if func is torch.Tensor.__bool__ and args[0].device.type == "meta":
            # Asked only of attention masks, whether all of a prompt's tokens are text.
            return False
        return func(*args, **options)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's signature
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    ) -> torch.Tensor:
        if query.device.type != "meta" or self._attention is Attention.MATH:
            return torch.nn.functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        width = value.shape[-1]
        if self._attention is Attention.CHUNKED:
            return _in_parts(query, width)
        if query.dtype is not torch.float32 and attn_mask is None and width <= _FLASH_HEAD_WIDTH:
            return torch.ops.aten._scaled_dot_product_flash_attention(
                query, key, value, 0.0, is_causal
            )[0]
        sums = None
        if query.dtype is not torch.float32 and width > _REGISTER_HEAD_WIDTH:
            sums = torch.empty((*query.shape[:-1], width), dtype=torch.float32, device="meta")
        out = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, compute_log_sumexp=True, is_causal=is_causal
        )[0]
        del sums
        return out


def _in_parts(query: torch.Tensor, width: int) -> torch.Tensor:
    """Without the parts, whose number differs from size to size."""
    batch, heads, tokens, _ = query.shape
    out = query.new_empty((batch, tokens, heads, width)).permute(0, 2, 1, 3)
    size = chunk_bytes(batch=batch, heads=heads, tokens=tokens, head_width=width)
    parts = torch.empty(size, dtype=torch.uint8, device=query.device)
    del parts
    return out


def _rms_norm(
    values: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    if values.device.type != "meta" or (weight is not None and weight.dtype != values.dtype):
        return torch.rms_norm(values, list(normalized_shape), weight, eps)
    # Like empty, which keeps the order of dimensions, as the kernel does.
    rows = torch.empty(values.shape[: -len(normalized_shape)], dtype=torch.float32, device="meta")
    out = torch.empty(values.shape, dtype=values.dtype, device="meta")
    del rows
    return out

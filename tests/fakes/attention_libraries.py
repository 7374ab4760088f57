"""Stand-ins for attention libraries that need a GPU: their signatures, limits and errors.

SageAttention 2.2, flash-attn 2.8 and xformers 0.0.33, as far as diffusers calls them. They compute
with torch's math; SageAttention's also rounds queries and keys to 8 bits, as its kernels do.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

HALVES = (torch.float16, torch.bfloat16)


class Libraries:
    """Those that were called, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def sageattn(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        tensor_layout: str = "HND",
        is_causal: bool = False,
        sm_scale: float | None = None,
        return_lse: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        self.calls.append("sage")
        assert q.dtype in HALVES, (
            "Input tensors must be in dtype of torch.float16 or torch.bfloat16"
        )
        assert q.dtype == k.dtype == v.dtype
        assert tensor_layout == "NHD"
        if q.size(-1) > 128:
            raise ValueError(f"Unsupported head_dim: {q.size(-1)}")
        assert {one.stride(-1) for one in (q, k, v)} == {1}
        # Keys are smoothed first: their mean changes no softmax.
        smooth = k - k.mean(dim=1, keepdim=True)
        return _attention(_to_8_bits(q), _to_8_bits(smooth), v, sm_scale)

    def flash_attn_func(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: torch.Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
    ) -> torch.Tensor:
        self.calls.append("flash-attn")
        if q.dtype not in HALVES:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if q.size(-1) > 256:
            raise RuntimeError("FlashAttention forward only supports head dimension at most 256")
        return _attention(q, k, v, softmax_scale)

    def memory_efficient_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_bias: torch.Tensor | None = None,
        p: float = 0.0,
        scale: float | None = None,
    ) -> torch.Tensor:
        self.calls.append("xformers")
        if query.device.type != "cpu" or query.ndim != 4:
            raise NotImplementedError("No operator found for `memory_efficient_attention_forward`")
        return _attention(query, key, value, scale)


def install(patch: pytest.MonkeyPatch) -> Libraries:
    """Have diffusers find all three, as when it is imported where they are installed."""
    from diffusers.models import attention_dispatch

    libraries = Libraries()
    patch.setattr(attention_dispatch, "_CAN_USE_SAGE_ATTN", True)
    patch.setattr(attention_dispatch, "sageattn", libraries.sageattn)
    patch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", True)
    patch.setattr(attention_dispatch, "flash_attn_func", libraries.flash_attn_func)
    patch.setattr(attention_dispatch, "_CAN_USE_XFORMERS_ATTN", True)
    operators = SimpleNamespace(memory_efficient_attention=libraries.memory_efficient_attention)
    patch.setattr(attention_dispatch, "xops", operators)
    return libraries


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Of (batch, tokens, heads, width)."""
    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    return scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


def _to_8_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Rounded with one scale a head and block of 64 tokens."""
    blocks = [
        block.div(scale).round().mul(scale)
        for block in tensor.float().split(64, dim=1)
        for scale in (block.abs().amax(dim=(1, 3), keepdim=True) / 127,)
    ]
    return torch.cat(blocks, dim=1).to(tensor.dtype)


def attention_of(network: torch.nn.Module) -> set[str]:
    """The backends that a transformer is set to, as diffusers names them."""
    processors: list[Any] = [getattr(one, "processor", None) for one in network.modules()]
    backends = [one._attention_backend for one in processors if hasattr(one, "_attention_backend")]
    return {str(getattr(one, "value", one)) for one in backends}

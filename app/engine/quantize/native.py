"""Matrix products in 8 bits, by the GPU's own units: both sides are quantized by rows.

Not tried on a real GPU; torch has slow stand-ins of the same operations for the CPU, on which these
are tested. `app.engine.quantize.ways` runs them before it lets a network use them.
"""

from typing import Any

import torch

from app.engine.quantize.formats import FP8, FP8_MOST, INT8_MOST, row_scales

CHUNK_BYTES = 32 << 20
"""Intermediate results are made in pieces of about this size."""
_ROUND = 128
"""Pieces end where tiles of matrix units do."""

# Not named in torch's public interface, but what the libraries for quantization are built on.
_scaled_mm: Any = torch.ops.aten._scaled_mm
_int_mm: Any = torch.ops.aten._int_mm


def fp8_by_rows(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Multiply x (tokens, in) with codes (out, in) and scales (out, 1) in one operation."""
    x_codes, x_scales = _coded(x, FP8_MOST, FP8)
    return _scaled_mm(
        x_codes,
        codes.t(),
        scale_a=x_scales,
        scale_b=scales.t(),
        out_dtype=_fp8_out(x.dtype),
        use_fast_accum=x.is_cuda,
    ).to(x.dtype)


def fp8_scaled_after(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The same where the product takes only one scale for all: scales are applied to its result."""
    x_codes, x_scales = _coded(x, FP8_MOST, FP8)
    one = torch.ones((), device=x.device)
    y: torch.Tensor = _scaled_mm(
        x_codes,
        codes.t(),
        scale_a=one,
        scale_b=one,
        out_dtype=_fp8_out(x.dtype),
        use_fast_accum=x.is_cuda,
    )
    # One after the other: their product may be too small for half the bits.
    return y.mul_(x_scales).mul_(scales.t()).to(x.dtype)


def int8_by_rows(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Multiply x (tokens, in) with codes (out, in) and scales (out, 1); sums are int32."""
    x_codes, x_scales = _coded(x, INT8_MOST, torch.int8)
    out_features = codes.shape[0]
    y = x.new_empty(x.shape[0], out_features)
    # Sums take twice the memory of the result: the widest layers' are made in pieces.
    step = piece(4 * x.shape[0], out_features)
    for begin in range(0, out_features, step):
        end = min(begin + step, out_features)
        sums: torch.Tensor = _int_mm(x_codes, codes[begin:end].t())
        y[:, begin:end] = (sums * x_scales).mul_(scales[begin:end].t())
    return y


def piece(bytes_each: int, count: int) -> int:
    """Into how many at once a count is cut so that a piece takes about `CHUNK_BYTES`."""
    fits = CHUNK_BYTES // max(bytes_each, 1) // _ROUND * _ROUND
    return min(max(fits, _ROUND), max(count, 1))


def _coded(x: torch.Tensor, most: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of each token, and its scale; a token with NaN keeps it through its scale."""
    scales = row_scales(x, most)
    codes = torch.empty_like(x, dtype=dtype)
    step = piece(4 * x.shape[1], x.shape[0])
    for begin in range(0, x.shape[0], step):
        end = begin + step
        scaled = x[begin:end] / scales[begin:end]
        # Integers are rounded by us; a cast would cut. e4m3 has no infinity to go over to.
        codes[begin:end] = scaled.clamp_(-most, most) if dtype is FP8 else scaled.round_()
    return codes, scales


def _fp8_out(dtype: torch.dtype) -> torch.dtype:
    """The products' result is in half the bits at most; in fp16 large ones would overflow."""
    return torch.bfloat16 if dtype is torch.float16 else dtype

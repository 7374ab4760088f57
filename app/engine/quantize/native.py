"""Matrix products in 8 bits, by the GPU's own units: both sides are quantized by rows.

Not tried on a real GPU; torch has slow stand-ins of the same operations for the CPU, on which these
are tested, and its own checks for a GPU's tensors run without one. `app.engine.quantize.ways` runs
them before it lets a network use them.
"""

from typing import Any

import torch

from app.engine.quantize.formats import FP8, FP8_MOST, INT8_MOST, row_scales
from app.engine.quantize.pieces import piece, sums_piece

# Not named in torch's public interface, but what the libraries for quantization are built on.
_scaled_mm: Any = torch.ops.aten._scaled_mm
_int_mm: Any = torch.ops.aten._int_mm


def fp8_by_rows(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Multiply x (tokens, in) with codes (out, in) and scales (out, 1) in one operation."""
    x_codes, x_scales = _fp8_coded(x)
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
    x_codes, x_scales = _fp8_coded(x)
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
    x_codes, x_scales = _int8_coded(x)
    out_features = codes.shape[0]
    y = x.new_empty(x.shape[0], out_features)
    # Sums take twice the memory of the result: the widest layers' are made in pieces.
    step = sums_piece(x.shape[0], out_features)
    for begin in range(0, out_features, step):
        end = min(begin + step, out_features)
        sums: torch.Tensor = _int_mm(x_codes, codes[begin:end].t())
        # In fp32 in the place of the integers, which have as many bytes, and from there into the
        # result: 18 bytes of traffic for each of its numbers, and no memory but the sums'.
        scaled = torch.mul(sums, x_scales, out=sums.view(torch.float32))
        torch.mul(scaled, scales[begin:end].t(), out=y[:, begin:end])
        # Or they would still be there while the next ones are made.
        del sums, scaled
    return y


def _fp8_coded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of each token, and its scale; a token with NaN keeps it through its scale."""
    scales = row_scales(x, FP8_MOST)
    # Row by row in memory, as the products take it, whatever the form of x.
    codes = torch.empty(x.shape, dtype=FP8, device=x.device)
    # Divided in fp32 and rounded in one pass. What the division leaves above the largest number,
    # 2^-23 of it at most, is rounded to it.
    return torch.div(x, scales, out=codes), scales


def _int8_coded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in integers."""
    scales = row_scales(x, INT8_MOST)
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    step = piece(4 * x.shape[1], x.shape[0])
    for begin in range(0, x.shape[0], step):
        some = slice(begin, begin + step)
        # Rounded by us: a cast would cut.
        divided = torch.div(x[some], scales[some]).round_()
        codes[some] = divided
        del divided
    return codes, scales


def _fp8_out(dtype: torch.dtype) -> torch.dtype:
    """The products' result is in half the bits at most; in fp16 large ones would overflow."""
    return torch.bfloat16 if dtype is torch.float16 else dtype

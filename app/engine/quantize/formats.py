"""From a weight matrix to few bits and back: fp8 and int8 by rows, NF4 by blocks of a row.

Stored are plain tensors of ordinary types, so that they can be packed, streamed and mapped like any
other weight.
"""

from typing import Any

import torch

FP8 = torch.float8_e4m3fn
FP8_MOST = 448.0
"""The largest number of e4m3."""
INT8_MOST = 127.0
_TINY = 1e-12
"""Instead of a scale of zero, which would divide by itself."""

NF4_VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""4-bit NormalFloat of the QLoRA paper: equally likely values of a normal distribution."""
_SCALE_TRIALS = (-1.0, 0.9, -0.9)
"""Of the largest magnitude, beside itself. The values are not symmetric, and the tails are rare:
the closest of these leaves about 8 % less error."""
_BINS = 2048
"""Between -1 and 1; weights are told apart so finely when their nearest code is looked up."""
_HALF_BYTES = 2
_linalg: Any = torch.linalg
_PAIRS: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}
"""512 bytes to a kilobyte for each device and type that has run."""
_TABLES: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}
"""10 kB for each device that has quantized to 4 bits."""


def row_scales(weight: torch.Tensor, most: float) -> torch.Tensor:
    """What the largest magnitude of each row is divided by to become `most`: (rows, 1), fp32."""
    return _largest(weight).float().clamp_min(_TINY).div_(most)


def _largest(numbers: torch.Tensor) -> torch.Tensor:
    """The largest magnitude along the last dimension, which is kept; NaN where one is."""
    if numbers.device.type == "cpu":
        # Many times as fast there as the norm, which on GPUs does without anything between.
        low, high = numbers.amin(-1, keepdim=True), numbers.amax(-1, keepdim=True)
        return torch.maximum(high, low.neg_())
    found: torch.Tensor = _linalg.vector_norm(numbers, ord=torch.inf, dim=-1, keepdim=True)
    return found


def to_fp8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in e4m3, and a scale for each row."""
    numbers = weight.float()
    scales = row_scales(numbers, FP8_MOST)
    # Rounding may go a little above the largest number, which e4m3 makes NaN.
    return numbers.div(scales).clamp_(-FP8_MOST, FP8_MOST).to(FP8), scales


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in 8-bit integers, and a scale for each row."""
    numbers = weight.float()
    scales = row_scales(numbers, INT8_MOST)
    return numbers.div(scales).round_().to(torch.int8), scales


def to_nf4(weight: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two codes a byte, the first in the lower half, and a scale in fp16 for each block of a row.

    Args:
        weight: Its width is a multiple of `block`.
        block: Weights that share a scale; even.
    """
    rows, width = weight.shape
    blocks = weight.float().view(rows, width // block, block)
    largest = _largest(blocks)
    scales = largest.half()
    error = _nf4_error(blocks, scales)
    for trial in _SCALE_TRIALS:
        tried = (largest * trial).half()
        off = _nf4_error(blocks, tried)
        scales = torch.where(off < error, tried, scales)
        error = torch.minimum(off, error)
    codes, _values = _bin_tables(weight.device)
    flat = codes.index_select(0, _nf4_bins(blocks, _safe(scales)).view(-1)).view(rows, width)
    return flat[:, 0::2] | (flat[:, 1::2] << 4), scales.view(rows, width // block)


def _nf4_error(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """How far weights are from what they become with these scales, for each block."""
    _codes, values = _bin_tables(blocks.device)
    safe = _safe(scales)
    found = values.index_select(0, _nf4_bins(blocks, safe).view(-1)).view_as(blocks)
    return _linalg.vector_norm(found.mul_(safe).sub_(blocks), dim=-1, keepdim=True)


def _nf4_bins(blocks: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
    """Where weights lie among fine bins."""
    half = _BINS / 2
    return torch.mul(blocks, half / safe).add_(half + 0.5).clamp_(0, 2 * half).int()


def _safe(scales: torch.Tensor) -> torch.Tensor:
    """In fp32; a block of zeros has the scale 0, and 0/0 would be NaN."""
    return scales.float().masked_fill_(scales == 0, 1.0)


def from_rows(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights of fp8 or int8 codes; every code is exact in each type of torch that is used."""
    return codes.to(dtype).mul_(scales.to(dtype))


def from_nf4(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights of NF4 codes, or of some of their rows."""
    rows, blocks = scales.shape
    table = _pairs(codes.device, dtype)
    # One look-up gives both weights of a byte: as one number of twice their size.
    found = table.index_select(0, codes.reshape(-1).int()).view(dtype)
    return found.view(rows, blocks, -1).mul_(scales.to(dtype).unsqueeze(-1)).view(rows, -1)


def _pairs(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """For each byte, the values of its lower and its upper half, seen as one integer."""
    known = _PAIRS.get((device, dtype))
    if known is not None:
        return known
    values = torch.tensor(NF4_VALUES, dtype=torch.float64)
    codes = torch.arange(256)
    pairs = torch.stack([values[codes % 16], values[codes // 16]], dim=1).to(dtype)
    whole = torch.int32 if dtype.itemsize == _HALF_BYTES else torch.int64
    found = pairs.view(whole).view(-1).to(device)
    if _is_real(found):
        _PAIRS[device, dtype] = found
    return found


def _bin_tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest code of each bin from -1 to 1, and its value: to look up is quicker."""
    known = _TABLES.get(device)
    if known is not None:
        return known
    values = torch.tensor(NF4_VALUES)
    centres = torch.arange(_BINS + 1) / (_BINS / 2) - 1
    codes = torch.bucketize(centres, (values[1:] + values[:-1]) / 2)
    found = codes.to(torch.uint8).to(device), values[codes].to(device)
    if _is_real(codes):
        _TABLES[device] = found
    return found


def _is_real(tensor: torch.Tensor) -> bool:
    """What is made of fake tensors, for a forecast, is of no use to a run."""
    return type(tensor) is torch.Tensor and tensor.device.type != "meta"

"""Codes and scales: exact where they must be, close where they can be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.quantize.formats import (
    FP8_MOST,
    NF4_VALUES,
    from_nf4,
    from_rows,
    to_fp8,
    to_int8,
    to_nf4,
)


def weight(rows: int = 48, width: int = 64, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("encode", "least", "most"), [(to_fp8, 0.015, 0.03), (to_int8, 0, 0.01)])
def test_rows_come_back_about_as_they_were(encode, least, most):
    wanted = weight()
    codes, scales = encode(wanted)
    assert codes.element_size() == 1
    assert scales.shape == (48, 1)
    assert least <= relative(from_rows(codes, scales, torch.float32), wanted) <= most


def test_largest_of_each_row_is_the_largest_code():
    codes, _ = to_fp8(weight())
    assert codes.float().abs().amax(1).tolist() == [FP8_MOST] * 48
    codes, _ = to_int8(weight())
    assert codes.abs().amax(1).tolist() == [127] * 48


@pytest.mark.parametrize("encode", [to_fp8, to_int8, lambda zeros: to_nf4(zeros, 32)])
def test_rows_of_zeros_stay_zeros(encode):
    codes, scales = encode(torch.zeros(4, 64))
    back = from_nf4 if scales.shape[1] > 1 else from_rows
    assert from_nf4 is not back or scales.dtype is torch.float16
    assert back(codes, scales, torch.bfloat16).abs().max() == 0


def test_four_bits_are_closer_than_the_customary_blocks_of_64():
    wanted = weight(256, 512)
    codes, scales = to_nf4(wanted, 32)
    assert codes.numel() + 2 * scales.numel() == wanted.numel() * 4.5 / 8
    found = from_nf4(codes, scales, torch.float32)
    values = torch.tensor(NF4_VALUES)
    blocks = wanted.view(256, -1, 64)
    largest = blocks.abs().amax(-1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(values).abs().argmin(-1)
    customary = relative((values[nearest] * largest).view_as(wanted), wanted)
    assert relative(found, wanted) < 0.9 * customary


def test_values_of_four_bits_come_back_exactly():
    values = torch.tensor(NF4_VALUES)
    wanted = values.repeat(3, 2) * 0.25  # A scale that fp16 has exactly.
    codes, scales = to_nf4(wanted, 16)
    assert torch.equal(from_nf4(codes, scales, torch.float32), wanted)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 5),
    blocks=st.integers(1, 4),
    block=st.sampled_from([8, 16, 32]),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_no_weight_is_further_off_than_half_the_widest_step(rows, blocks, block, scale, seed):
    wanted = weight(rows, blocks * block, seed=seed) * scale
    codes, scales = to_nf4(wanted, block)
    found = from_nf4(codes, scales, torch.float32)
    parts = (rows, blocks, block)
    largest = wanted.view(parts).abs().amax(-1)
    # The widest step is 0.304 of the scale; the outermost tenth may have been given up.
    assert ((found - wanted).view(parts).abs().amax(-1) <= 0.17 * largest + 1e-6).all()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_both_halves_of_a_byte_are_read_in_order(dtype):
    codes = torch.arange(256, dtype=torch.uint8).view(1, 256)
    found = from_nf4(codes, torch.ones(1, 16, dtype=torch.float16), dtype)
    expected = [NF4_VALUES[number % 16 if low else number // 16]
                for number in range(256) for low in (True, False)]  # fmt: skip
    assert torch.equal(found.view(-1), torch.tensor(expected, dtype=torch.float64).to(dtype))

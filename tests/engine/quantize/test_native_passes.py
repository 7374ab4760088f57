"""Products in 8 bits: few passes over memory give the bits of the plain formula, and hold less."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from app.core.policy import Precision
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.quantize import pieces, ways
from app.engine.quantize.formats import (
    FP8,
    FP8_MOST,
    INT8_MOST,
    row_scales,
    to_fp8,
    to_int8,
)
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.linear import QuantizedLinear, quantize_linear
from app.engine.quantize.native import fp8_by_rows, fp8_scaled_after, int8_by_rows
from app.engine.quantize.pieces import sums_bytes, sums_piece
from app.engine.quantize.ways import PRODUCTS, Product, forced_way, native_product

TYPES = [torch.bfloat16, torch.float16, torch.float32]
TOKENS, WIDTH, HEIGHT = 70, 96, 304


def numbers(rows: int, width: int, *, seed: int) -> torch.Tensor:
    """Rows of all magnitudes, with what is none and what is without end among them."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(rows, width, generator=generator)
    return found * torch.logspace(-7, 3, rows).unsqueeze(1)


def tokens(dtype: torch.dtype) -> torch.Tensor:
    x = numbers(TOKENS, WIDTH, seed=1).to(dtype)
    x[3, 5], x[7, 2], x[11] = torch.nan, torch.inf, 0
    return x


def plain_codes(
    x: torch.Tensor, most: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    scales = row_scales(x, most)
    scaled = x.float() / scales
    rounded = scaled.clamp(-most, most) if dtype is FP8 else scaled.round()
    return rounded.to(dtype), scales


def plain_int8(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    x_codes, x_scales = plain_codes(x, INT8_MOST, torch.int8)
    sums = x_codes.int() @ codes.int().t()
    return ((sums.float() * x_scales) * scales.t()).to(x.dtype)


def plain_fp8(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, *, after: bool
) -> torch.Tensor:
    x_codes, x_scales = plain_codes(x, FP8_MOST, FP8)
    out = torch.bfloat16 if x.dtype is torch.float16 else x.dtype
    one = torch.ones(())
    given = (one, one) if after else (x_scales, scales.t())
    y = torch.ops.aten._scaled_mm(
        x_codes, codes.t(), scale_a=given[0], scale_b=given[1], out_dtype=out
    )
    if after:
        y = (y.float() * x_scales).to(out)
        y = (y.float() * scales.t()).to(out)
    return y.to(x.dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("columns", "count"), [(384, 1), (128, 3)])
def test_int8_has_the_bits_of_the_formula(
    dtype: torch.dtype, columns: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, scales = to_int8(numbers(HEIGHT, WIDTH, seed=2))
    monkeypatch.setattr(pieces, "CHUNK_BYTES", 4 * TOKENS * columns)
    # The last of three pieces is narrower.
    assert -(-HEIGHT // sums_piece(TOKENS, HEIGHT)) == count
    x = tokens(dtype)
    assert same_bits(int8_by_rows(x, codes, scales), plain_int8(x, codes, scales))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("after", [False, True])
def test_fp8_has_the_bits_of_the_formula(dtype: torch.dtype, after: bool) -> None:
    codes, scales = to_fp8(numbers(HEIGHT, WIDTH, seed=2))
    product = fp8_scaled_after if after else fp8_by_rows
    x = tokens(dtype)
    assert same_bits(product(x, codes, scales), plain_fp8(x, codes, scales, after=after))


def same_bits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.dtype is wanted.dtype and torch.equal(
        found.nan_to_num(nan=-1.0), wanted.nan_to_num(nan=-1.0)
    )


def test_no_quotient_is_above_what_is_rounded_to_the_largest_number() -> None:
    """So that codes need not be clamped: of all magnitudes in bf16 that a scale is made of."""
    largest = torch.arange(1, 0x7F80, dtype=torch.int16).view(torch.bfloat16).unsqueeze(1)
    quotients = largest / row_scales(largest, FP8_MOST)
    # Up to 464 all are rounded to 448; what is further up, some versions of torch make NaN.
    assert FP8_MOST < quotients.max() <= FP8_MOST * (1 + 2**-22)
    assert quotients.to(FP8).float().max() == FP8_MOST


def held_bytes(call: Callable[[], object]) -> int:
    storages = PhaseStorages()
    with torch.no_grad(), storages:
        call()
    return storages.peak_bytes


def on_meta(rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(rows, width, dtype=dtype, device="meta")


@pytest.mark.parametrize("count", [1, 5])
def test_pieces_of_sums_follow_each_other_in_the_same_memory(count: int) -> None:
    count_tokens, width = 4096, 1024
    height = count * 2048
    assert sums_piece(count_tokens, height) == 2048
    x = on_meta(count_tokens, width, torch.bfloat16)
    codes, scales = on_meta(height, width, torch.int8), on_meta(height, 1, torch.float32)
    found = held_bytes(lambda: int8_by_rows(x, codes, scales))
    result = 2 * count_tokens * height
    known = result + count_tokens * width + sums_bytes(count_tokens, height)
    # And the tokens' scales, twice while they are made.
    assert known <= found <= known + 8 * count_tokens


def test_codes_in_fp8_are_made_with_nothing_between() -> None:
    x = on_meta(4096, 8192, torch.bfloat16)
    codes, scales = on_meta(128, 8192, FP8), on_meta(128, 1, torch.float32)
    found = held_bytes(lambda: fp8_by_rows(x, codes, scales))
    assert found <= 4096 * (8192 + 2 * 128 + 8)


def test_a_bias_is_added_where_the_result_is() -> None:
    for precision in (Precision.FP8, Precision.INT8, Precision.NF4):
        layer = nn.Linear(64, 4096, dtype=torch.bfloat16).requires_grad_(False)
        made = quantize_linear(layer, precision)
        plain = quantize_linear(layer, precision)
        plain.bias = None
        x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
        assert torch.equal(made(x), plain(x) + layer.bias)
        made, plain = made.to("meta"), plain.to("meta")
        on = on_meta(512, 64, torch.bfloat16)
        assert held_bytes(lambda m=made, x=on: m(x)) == held_bytes(lambda m=plain, x=on: m(x))


def refusing(*sizes: int) -> tuple[Product, list[int]]:
    """A product that does not take some numbers of tokens, as a library tells it."""
    asked: list[int] = []

    def product(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        if len(x) in sizes:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling a product")
        return fp8_by_rows(x, codes, scales)

    return product, asked


@pytest.fixture
def nothing_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_refused", set())


def fp8_layer(width: int = 64) -> QuantizedLinear:
    layer = nn.Linear(width, 48, bias=False).requires_grad_(False)
    return quantize_linear(layer, Precision.FP8)


@pytest.mark.usefixtures("nothing_refused")
def test_a_size_that_is_refused_is_dequantized_and_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    product, asked = refusing(40)
    monkeypatch.setitem(PRODUCTS, Way.FP8_ROWS, product)
    layers = fp8_layer(), fp8_layer(128)
    for layer, count in itertools.product(layers, (40, 41, 40)):
        x = torch.randn(count, layer.in_features, generator=torch.Generator().manual_seed(0))
        plain = layer(x)
        with forced_way(Precision.FP8, Way.FP8_ROWS):
            assert torch.equal(layer(x), plain) == (count == 40)
    # Other layers have other sizes.
    assert asked == [40, 41, 40, 41]


@pytest.mark.usefixtures("nothing_refused")
def test_memory_that_ran_out_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setitem(PRODUCTS, Way.FP8_ROWS, full)
    layer = fp8_layer()
    with pytest.raises(torch.OutOfMemoryError):
        native_product(Way.FP8_ROWS, torch.zeros(40, 64), layer.codes, layer.scales)
    assert not ways._refused


@pytest.mark.parametrize(("precision", "way"), [
    (Precision.FP8, Way.FP8_ROWS),
    (Precision.FP8, Way.FP8_SCALED_AFTER),
    (Precision.INT8, Way.INT8_ROWS),
])  # fmt: skip
def test_layers_of_odd_sizes_are_dequantized(precision: Precision, way: Way) -> None:
    """As others may store them; a GPU's products refuse them."""
    layer = nn.Linear(40, 56, bias=False).requires_grad_(False)
    made = quantize_linear(layer, precision)
    x = torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    plain = made(x)
    with forced_way(precision, way):
        assert torch.equal(made(x), plain)


def test_tokens_in_any_order_in_memory_are_taken() -> None:
    """Codes lie row by row, as the products ask for, also where x does not."""
    x = torch.randn(64, 48, generator=torch.Generator().manual_seed(0)).t()
    for precision, way in ((Precision.FP8, Way.FP8_ROWS), (Precision.INT8, Way.INT8_ROWS)):
        layer = nn.Linear(64, 48, bias=False).requires_grad_(False)
        made = quantize_linear(layer, precision)
        with forced_way(precision, way):
            assert torch.equal(made(x), made(x.contiguous()))

"""Quantized layers: what they take, that pieces and ways agree, and what the probe decides."""

from dataclasses import dataclass

import pytest
import torch

from app.core.policy import Precision
from app.engine.quantize import pieces, ways
from app.engine.quantize.kept_ways import Way, WayRecord
from app.engine.quantize.linear import QuantizedLinear, empty_linear, quantize_linear, try_ways
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.quantize.ways import PRODUCTS, forced_way, probe, way_for

PRECISIONS = sorted(QUANTIZED, key=lambda precision: precision.value)
MOST = {Precision.FP8: 0.03, Precision.INT8: 0.012, Precision.NF4: 0.09}
NATIVE = [
    (Precision.FP8, Way.FP8_ROWS),
    (Precision.FP8, Way.FP8_SCALED_AFTER),
    (Precision.INT8, Way.INT8_ROWS),
]


def linear(
    width: int = 256, height: int = 384, *, bias: bool = False, dtype: torch.dtype = torch.float32
) -> torch.nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = torch.nn.Linear(width, height, bias=bias, dtype=dtype)
    return made.requires_grad_(requires_grad=False)


def tokens(width: int = 256, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 40, width, generator=torch.Generator().manual_seed(1)).to(dtype)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_result_is_close_and_of_the_same_kind(precision, dtype, bias):
    layer = linear(bias=bias, dtype=dtype)
    x = tokens(dtype=dtype)
    wanted = layer(x)
    made = quantize_linear(layer, precision)
    found = made(x)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert relative(found, wanted) <= MOST[precision]
    assert made.codes.nbytes + made.scales.nbytes == Recipe(precision=precision).layer_bytes(
        256, 384
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pieces_give_the_same_as_the_whole(precision, monkeypatch):
    made = quantize_linear(linear(), precision)
    whole = made(tokens())
    monkeypatch.setattr(pieces, "CHUNK_BYTES", 256 * 4 * 128)
    torch.testing.assert_close(made(tokens()), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("precision", "way"), NATIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_in_8_bits_are_close(precision, way, dtype):
    layer = linear(dtype=dtype)
    made = quantize_linear(layer, precision)
    with forced_way(precision, way):
        found = made(tokens(dtype=dtype))
    assert found.dtype is dtype
    assert relative(found, layer(tokens(dtype=dtype))) <= 0.045


def test_sums_in_pieces_are_the_same(monkeypatch):
    made = quantize_linear(linear(), Precision.INT8)
    with forced_way(Precision.INT8, Way.INT8_ROWS):
        whole = made(tokens())
        monkeypatch.setattr(pieces, "CHUNK_BYTES", 80 * 4 * 128)
        assert torch.equal(made(tokens()), whole)


@pytest.mark.parametrize(("precision", "way"), NATIVE)
def test_a_token_that_is_no_number_stays_none_and_harms_no_other(precision, way):
    made = quantize_linear(linear(), precision)
    x = tokens()
    with forced_way(precision, way):
        whole = made(x)
        x[0, 3, 5] = torch.nan
        found = made(x)
    assert found[0, 3].isnan().all()
    assert torch.equal(found[1], whole[1])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_layers_are_built_without_memory_and_take_plain_tensors(precision):
    with torch.device("meta"):
        layer = torch.nn.Linear(256, 384, bias=False)
    made = empty_linear(layer, Recipe(precision=precision))
    filled = quantize_linear(linear(), precision)
    shapes = {name: (buffer.shape, buffer.dtype) for name, buffer in made.named_buffers()}
    assert all(buffer.device.type == "meta" for buffer in made.buffers())
    assert shapes == {n: (b.shape, b.dtype) for n, b in filled.named_buffers()}
    assert all(type(buffer) is torch.Tensor for buffer in filled.buffers())
    assert not list(made.parameters())
    made.load_state_dict(filled.state_dict(), assign=True)
    assert torch.equal(made(tokens()), filled(tokens()))


def test_the_processor_always_dequantizes():
    for precision in PRECISIONS:
        assert way_for(precision, torch.device("cpu"), torch.bfloat16) is Way.DEQUANTIZE


@dataclass
class Ticks:
    """A clock by which each product takes what it is told to, in the order they are measured."""

    taken_s: list[float]
    now_s: float = 0.0
    calls: int = 0

    def __call__(self) -> float:
        if self.calls % 2:
            self.now_s += self.taken_s[self.calls // 2 // 5]
        self.calls += 1
        return self.now_s


@pytest.fixture
def small_trial(monkeypatch):
    monkeypatch.setattr(ways, "TRIAL_TOKENS", 32)
    monkeypatch.setattr(ways, "TRIAL_FEATURES", 64)


def trial(precision: Precision, *taken_s: float) -> Way:
    record = WayRecord(None, "Test GPU", precision, "torch.bfloat16")
    ticks = Ticks(list(taken_s))
    return probe(precision, torch.device("cpu"), torch.bfloat16, record, clock_s=ticks)


def test_probe_takes_what_is_faster(small_trial):
    assert trial(Precision.FP8, 2.0, 1.0) is Way.FP8_ROWS
    assert trial(Precision.FP8, 2.0, 3.0, 1.0) is Way.FP8_SCALED_AFTER
    assert trial(Precision.FP8, 1.0, 3.0, 3.0) is Way.DEQUANTIZE
    assert trial(Precision.INT8, 2.0, 1.0) is Way.INT8_ROWS
    # Two runs of the same may differ by so much; the closer result is worth more.
    assert trial(Precision.INT8, 1.0, 0.97) is Way.DEQUANTIZE
    assert trial(Precision.NF4, 1.0) is Way.DEQUANTIZE


def test_probe_passes_over_what_fails_or_is_wrong(small_trial, monkeypatch):
    def refuses(x, codes, scales):
        raise RuntimeError("not on this device")

    def wrong(x, codes, scales):
        return torch.full((x.shape[0], codes.shape[0]), torch.nan)

    monkeypatch.setitem(PRODUCTS, Way.FP8_ROWS, refuses)
    assert trial(Precision.FP8, 2.0, 1.0) is Way.FP8_SCALED_AFTER
    monkeypatch.setitem(PRODUCTS, Way.FP8_SCALED_AFTER, wrong)
    assert trial(Precision.FP8, 2.0) is Way.DEQUANTIZE


def test_probe_passes_over_what_takes_only_some_numbers_of_tokens(monkeypatch):
    monkeypatch.setattr(ways, "TRIAL_TOKENS", 64)
    monkeypatch.setattr(ways, "TRIAL_FEATURES", 64)
    by_rows = PRODUCTS[Way.FP8_ROWS]

    def only_whole_tiles(x, codes, scales):
        if len(x) % 16:
            raise RuntimeError("the number of rows must be a multiple of 16")
        return by_rows(x, codes, scales)

    monkeypatch.setitem(PRODUCTS, Way.FP8_ROWS, only_whole_tiles)
    assert trial(Precision.FP8, 2.0, 1.0) is Way.FP8_SCALED_AFTER


def test_ways_of_a_network_are_tried_once_each(monkeypatch):
    asked = []
    monkeypatch.setattr("app.engine.quantize.linear.way_for", lambda *what: asked.append(what))
    precisions = (Precision.FP8, Precision.FP8, Precision.INT8)
    layers = [quantize_linear(linear(), precision) for precision in precisions]
    device = torch.device("cuda:0")
    try_ways(torch.nn.Sequential(linear(), *layers), device, torch.bfloat16)
    assert sorted(asked, key=lambda what: what[0].value) == [
        (Precision.FP8, device, torch.bfloat16),
        (Precision.INT8, device, torch.bfloat16),
    ]


def test_probe_does_not_hide_that_memory_ran_out(small_trial, monkeypatch):
    def full(x, codes, scales):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setitem(PRODUCTS, Way.INT8_ROWS, full)
    with pytest.raises(torch.OutOfMemoryError):
        trial(Precision.INT8, 1.0)


def test_few_tokens_are_dequantized():
    made = quantize_linear(linear(), Precision.INT8)
    x = tokens()[0, :4]
    plain = made(x)
    with forced_way(Precision.INT8, Way.INT8_ROWS):
        assert torch.equal(made(x), plain)


def test_what_only_others_store_is_dequantized():
    made = quantize_linear(linear(), Precision.FP8)
    made.codes = made.codes.float().to(torch.float8_e5m2)
    plain = made(tokens())
    with forced_way(Precision.FP8, Way.FP8_SCALED_AFTER):
        assert torch.equal(made(tokens()), plain)


def test_layers_tell_what_they_are():
    made: QuantizedLinear = quantize_linear(linear(), Precision.NF4)
    assert "precision=nf4" in repr(made)

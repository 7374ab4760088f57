"""Quantized layers of real size keep what products on an NVIDIA GPU ask for; without a GPU.

See `tests.fakes.fake_cuda` for what is checked. That the results are right, the stand-ins on the
CPU show.
"""

from typing import Any

import pytest
import torch
from torch import nn

from app.core.policy import Precision
from app.engine.coefficients import shipped_coefficients
from app.engine.forecast.model_spec import known_spec
from app.engine.forecast.networks import Networks
from app.engine.quantize.kept_ways import CANDIDATES, Way
from app.engine.quantize.linear import QuantizedLinear, empty_linear
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.quantize.ways import LEAST_TOKENS, forced_way
from tests.fakes.fake_cuda import CUDA, ProductsOnCuda, fake_cuda

MODELS = ("klein-4b", "klein-9b", "dev")
TOKENS = (32, 33, 512, 4608, 4609)
WAYS = [
    (precision, way)
    for precision in sorted(QUANTIZED, key=lambda one: one.value)
    for way in (Way.DEQUANTIZE, *CANDIDATES.get(precision, ()))
]
OPERATIONS = {
    Way.FP8_ROWS: "_scaled_mm",
    Way.FP8_SCALED_AFTER: "_scaled_mm",
    Way.INT8_ROWS: "_int_mm",
}


def sides(model: str) -> set[tuple[int, int]]:
    """Rows and columns of all weights that are quantized, as counted in the real networks."""
    found = shipped_coefficients(model)
    assert found is not None
    return {
        (rows, columns)
        for network in ("transformer", "text_encoder")
        for kind in found.networks[network].kinds
        for rows, columns, _count in kind.matrices
    }


SIDES = sorted(set().union(*(sides(model) for model in MODELS)))


def layer(
    rows: int, columns: int, precision: Precision, dtype: torch.dtype, *, bias: bool = False
) -> QuantizedLinear:
    with torch.device("meta"):
        plain = nn.Linear(columns, rows, bias=bias, dtype=dtype)
    made = empty_linear(plain, Recipe(precision=precision))
    made.to_empty(device="cuda")
    return made


def check_result(made: QuantizedLinear, x: torch.Tensor, way: Way, seen: ProductsOnCuda) -> None:
    seen.products.clear()
    y = made(x)
    assert (y.shape, y.dtype, y.device) == ((*x.shape[:-1], made.out_features), x.dtype, CUDA)
    count = x.numel() // x.shape[-1]
    expected = {(OPERATIONS[way], count)} if way in OPERATIONS else set[tuple[str, int]]()
    assert set(seen.products) == expected


def test_all_sizes_are_among_those_that_are_tried() -> None:
    # Single blocks' input and output of klein 4B, and what its text encoder has.
    assert {(27648, 3072), (3072, 12288), (9728, 2560), (2560, 9728)} <= set(SIDES)
    assert len(SIDES) > len(MODELS) * 5


@pytest.mark.parametrize(("precision", "way"), WAYS)
def test_layers_of_all_sizes_are_multiplied_as_a_gpu_takes_it(
    precision: Precision, way: Way
) -> None:
    with fake_cuda() as seen, forced_way(precision, way):
        for index, (rows, columns) in enumerate(SIDES):
            made = layer(rows, columns, precision, torch.bfloat16)
            counts = TOKENS if way in OPERATIONS else TOKENS[-1:]
            # Many pieces take long: of every third size.
            for count in counts[:3] if way is Way.INT8_ROWS and index % 3 else counts:
                x = torch.empty(1, count, columns, dtype=torch.bfloat16, device="cuda")
                check_result(made, x, way, seen)


@pytest.mark.parametrize(("precision", "way"), WAYS)
@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 33), (torch.float16, 4608)])
def test_other_types_and_biases_are_taken(
    precision: Precision, way: Way, dtype: torch.dtype, count: int
) -> None:
    with fake_cuda() as seen, forced_way(precision, way):
        made = layer(27648, 3072, precision, dtype, bias=True)
        check_result(made, torch.empty(count, 3072, dtype=dtype, device="cuda"), way, seen)
        # A part of something wider, and one that lies the other way round.
        wide = torch.empty(count, 3 * 3072, dtype=dtype, device="cuda")
        check_result(made, wide[:, 3072:6144], way, seen)
        check_result(made, torch.empty(3072, count, dtype=dtype, device="cuda").t(), way, seen)
        # Pieces of a last width of its own.
        odd = layer(27648 + 16, 3072, precision, dtype)
        check_result(odd, torch.empty(2, count, 3072, dtype=dtype, device="cuda"), way, seen)


def test_the_fake_refuses_what_a_gpu_does() -> None:
    def empty(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(rows, columns, dtype=dtype, device="cuda")

    with fake_cuda():
        for rows, columns in ((16, 64), (32, 60)):
            with pytest.raises(AssertionError):
                torch.ops.aten._int_mm(
                    empty(rows, columns, torch.int8), empty(64, columns, torch.int8).t()
                )
        with pytest.raises(AssertionError):
            torch.ops.aten._int_mm(empty(32, 64, torch.int8), empty(64, 64, torch.int8))
        with pytest.raises(RuntimeError, match="device"):
            torch.add(empty(32, 64, torch.float32), torch.empty(32, 64))


@pytest.mark.parametrize(("precision", "way"), WAYS)
def test_what_the_gpu_refuses_is_not_asked_of_it(precision: Precision, way: Way) -> None:
    with fake_cuda() as seen, forced_way(precision, way):
        few = torch.empty(LEAST_TOKENS - 1, 3072, dtype=torch.bfloat16, device="cuda")
        check_result(layer(3072, 3072, precision, few.dtype), few, Way.DEQUANTIZE, seen)
        odd = torch.empty(512, 3080, dtype=torch.bfloat16, device="cuda")
        check_result(layer(3080, 3080, precision, odd.dtype), odd, Way.DEQUANTIZE, seen)


@pytest.mark.parametrize(("precision", "way"), WAYS)
def test_blocks_of_the_transformer_run_on_one_device(precision: Precision, way: Way) -> None:
    recipe = Recipe(precision=precision)
    networks = Networks(known_spec("klein-9b"), "meta", torch.bfloat16, shallow=True, recipe=recipe)
    network = networks.transformer
    del network.transformer_blocks[1:], network.single_transformer_blocks[1:]
    config: Any = network.config
    with fake_cuda() as seen, forced_way(precision, way):
        nn.Module.to_empty(network, device="cuda")

        def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device="cuda")

        found = network(
            hidden_states=zeros(1, 4096, config.in_channels),
            encoder_hidden_states=zeros(1, 512, config.joint_attention_dim),
            timestep=zeros(1),
            guidance=None,
            img_ids=zeros(1, 4096, 4, dtype=torch.int64),
            txt_ids=zeros(1, 512, 4, dtype=torch.int64),
            return_dict=False,
        )[0]
        assert found.shape == (1, 4096, config.in_channels)
        assert (found.dtype, found.device) == (torch.bfloat16, CUDA)
    # Picture, prompt, and both together.
    wanted = (
        {(OPERATIONS[way], count) for count in (4096, 512, 4608)} if way in OPERATIONS else set()
    )
    assert set(seen.products) == wanted

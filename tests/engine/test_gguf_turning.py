"""What GGUF layers need besides is what a dry run of diffusers' own functions says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from app.core.policy import Precision
from app.engine.forecast.dry_run import DryRun
from app.engine.forecast.model_spec import known_spec
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.foreign_weights import ForeignWeights
from app.engine.gguf_turning import BYTES_PER_WEIGHT, bytes_per_weight, turning_bytes
from app.engine.quantize.gguf_file import KINDS
from app.engine.quantize.gguf_linear import GgufLinear, gguf_rows
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import named_modules
from tests.engine.planning_cases import model

BY_NAME = Recipe(precision=Precision.FP8)
BLOCKS = {"Q8_0": (32, 34), "Q4_0": (32, 18), "Q5_1": (32, 24), "IQ4_NL": (32, 18)}
SUPER_BLOCKS = {"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210, "IQ4_XS": 136}
KIND_BLOCKS = (
    BLOCKS
    | {"Q4_1": (32, 20), "Q5_0": (32, 22)}
    | {kind: (256, size) for kind, size in SUPER_BLOCKS.items()}
)
"""Weights of a block, and its bytes, by the specification of the format."""


def dry_run(kind: str, precision: Precision) -> DryRun:
    """Of klein-9B, whose layers have pieces that are full."""
    run = DryRun(known_spec("klein-9b"), precision, shallow=True)
    network = run.networks.transformer
    weights, size_bytes = KIND_BLOCKS[kind]
    for name, layer in list(named_modules(network)):
        if isinstance(layer, nn.Linear) and BY_NAME.covers(
            name, layer.in_features, layer.out_features
        ):
            row_bytes = layer.in_features // weights * size_bytes
            codes = torch.empty(layer.out_features, row_bytes, dtype=torch.uint8, device="meta")
            parent, _, attribute = name.rpartition(".")
            put = GgufLinear(layer.in_features, kind, codes, layer.bias)
            setattr(network.get_submodule(parent), attribute, put)
    return run


def test_all_kinds_that_run_are_known() -> None:
    assert frozenset(BYTES_PER_WEIGHT) == KINDS == frozenset(KIND_BLOCKS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_takes_what_is_said_of_it(kind: str) -> None:
    weights, size_bytes = KIND_BLOCKS[kind]
    # Two pieces: the first one is gone when the second is turned back.
    codes = torch.empty(8192, 4096 // weights * size_bytes, dtype=torch.uint8, device="meta")
    layer = GgufLinear(4096, kind, codes)
    tokens = torch.empty(1, 4096, dtype=torch.bfloat16, device="meta")
    storages = PhaseStorages()
    with torch.no_grad(), storages:
        layer(tokens)
    told = turning_bytes(bytes_per_weight([kind]), 8192 * 4096)
    assert storages.peak_bytes <= told + 8192 * 2 <= storages.peak_bytes * 1.02


@pytest.mark.parametrize("kind", ["Q8_0", "IQ4_XS"])
def test_the_forecast_is_the_dry_run(kind: str) -> None:
    measured = (
        dry_run(kind, Precision.BF16).denoise(images=1, width_px=512, height_px=512).working_bytes
    )
    foreign = ForeignWeights(
        component="transformer",
        stored_as=f"gguf {kind}",
        precision=Precision.FP8,
        block_bytes=(),
        outside_bytes=None,
        turned_back=bytes_per_weight([kind]),
    )
    told = replace(model("klein-9b"), foreign=(foreign,)).denoise_working_bytes(
        images=1, width_px=512, height_px=512, precision=Precision.FP8
    )
    assert measured * 0.99 <= told <= measured * 1.01


def test_in_fp32_less_is_needed() -> None:
    plain = DryRun(known_spec("klein-9b"), Precision.FP32, shallow=True)
    for kind in ("Q8_0", "IQ4_XS"):
        found = (
            dry_run(kind, Precision.FP32)
            .denoise(images=1, width_px=512, height_px=512)
            .working_bytes
        )
        more = found - plain.denoise(images=1, width_px=512, height_px=512).working_bytes
        assert 0 < more <= turning_bytes(bytes_per_weight([kind]), 1 << 40)


def test_small_layers_need_no_more_than_their_own_weights_do() -> None:
    assert turning_bytes(4.0, 1000) == 4000
    assert bytes_per_weight(["bfloat16", "Q4_K", "Q6_K", "F32"]) == 5.26
    assert bytes_per_weight(["float8_e4m3fn"]) == 0.0


def test_blocks_are_as_long_as_the_format_says() -> None:
    for kind, (weights, size_bytes) in KIND_BLOCKS.items():
        codes = torch.zeros(2, 3 * size_bytes, dtype=torch.uint8, device="meta")
        assert gguf_rows(codes, kind, torch.bfloat16).shape == (2, 3 * weights)

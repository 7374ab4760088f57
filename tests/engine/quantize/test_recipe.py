"""Which layers of the real networks are quantized, and to what size."""

from typing import Any

import pytest
import torch

from app.core.paths import resource
from app.core.policy import Precision
from app.engine.libraries import diffusers_class, transformers_class
from app.engine.quantize.fidelity import fidelity_hint
from app.engine.quantize.linear import QuantizedLinear
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.quantize.skeleton import quantized_skeleton

PRECISIONS = sorted(QUANTIZED, key=lambda precision: precision.value)
NEVER = ("norm", "modulation", "embed", "proj_out", "lm_head", "vision")


def transformer() -> Any:
    network = diffusers_class("Flux2Transformer2DModel")
    with torch.device("meta"):
        return network.from_config(network.load_config(str(resource("models/demo/transformer"))))


def text_encoder() -> Any:
    folder = str(resource("models/demo/text_encoder"))
    config = transformers_class("Qwen3Config").from_pretrained(folder)
    with torch.device("meta"):
        return transformers_class("Qwen3ForCausalLM")(config)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("build", "each"), [(transformer, {12, 2}), (text_encoder, {7})], ids=["transformer", "text"]
)
def test_every_linear_layer_of_every_block_and_nothing_else(precision, build, each):
    network = build()
    before = dict(network.named_modules())
    made = quantized_skeleton(network, Recipe(precision=precision))
    blocks = {name.partition(".attn")[0].partition(".mlp")[0].partition(".ff")[0].partition(
        ".self_attn")[0] for name in made}  # fmt: skip
    linears = {n for n, m in before.items() if isinstance(m, torch.nn.Linear)}
    assert not any(word in name for name in made for word in NEVER)
    assert set(made) == {
        name for name in linears if name.startswith(tuple(f"{b}." for b in blocks))
    }
    counts = {block: sum(name.startswith(f"{block}.") for name in made) for block in blocks}
    assert set(counts.values()) == each
    for name, layer in made.items():
        assert network.get_submodule(name) is layer
        assert isinstance(layer, QuantizedLinear)
        assert layer.precision is precision
        assert layer.codes.device.type == "meta"


def test_layers_that_have_no_place_for_scales_are_left_alone():
    assert not Recipe(precision=Precision.NF4).covers("layers.0.mlp.up", 20, 64)
    assert Recipe(precision=Precision.NF4).covers("layers.0.mlp.up", 80, 64)
    assert not Recipe(precision=Precision.FP8).covers("layers.0.mlp.up", 24, 64)
    assert not Recipe(precision=Precision.INT8).covers("x_embedder", 64, 64)


def test_other_precisions_are_no_recipes():
    with pytest.raises(ValueError, match="bf16"):
        Recipe(precision=Precision.BF16)


def test_digest_tells_recipes_and_what_else_is_given_apart():
    recipes = [Recipe(precision=precision) for precision in PRECISIONS]
    recipes.append(Recipe(precision=Precision.NF4, block=16))
    digests = {recipe.digest(*more) for recipe in recipes for more in ((), ("a",), ("a", "b"))}
    assert len(digests) == 3 * len(recipes)


def test_planner_counts_the_same_bytes_for_real_layers():
    from app.engine.weight_sizes import ParameterCounts

    for rows, width in ((27648, 3072), (3072, 12288), (9728, 2560)):
        counts = ParameterCounts(matrices=((rows, width, 1),))
        for precision in PRECISIONS:
            real = Recipe(precision=precision).layer_bytes(width, rows)
            assert real <= counts.stored_bytes(precision) < real + 1024


def test_every_precision_has_a_hint():
    hints = {precision: fidelity_hint(precision) for precision in Precision}
    assert all(hint for precision, hint in hints.items() if precision is not Precision.AUTO)
    assert hints[Precision.AUTO] == ""

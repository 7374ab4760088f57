"""The demo still draws what it is told when all its blocks are quantized.

`bench/quantize.py` judges more pictures, and the products in 8 bits as well.
"""

from typing import Any

import pytest

from app.core.paths import resource
from app.core.policy import Precision
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import quantize_network

PICTURES = 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "least"), [(Precision.FP8, 0.95), (Precision.INT8, 0.95), (Precision.NF4, 0.9)]
)
def test_demo_draws_what_it_is_told_in_fewer_bits(precision, least):
    from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

    from scripts.demo_model.evaluation import score

    pipeline: Any = Flux2KleinPipeline.from_pretrained(
        resource("models/demo"), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    for network in (pipeline.transformer, pipeline.text_encoder):
        quantize_network(network, Recipe(precision=precision))
    share, wrong = score(pipeline, count=PICTURES, steps=8, seed=11)
    assert share >= least, dict(wrong)

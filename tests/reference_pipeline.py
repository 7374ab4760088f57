"""diffusers' own pipeline for a folder, loaded without any code of the engine."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from PIL import Image
from safetensors import safe_open

from app.core.request import GenerationRequest


@cache
def reference_pipeline(folder: Path) -> Any:
    """The pipeline of a klein or dev folder, each network in the precision it is stored in."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    encoder_class: Any = getattr(transformers, index["text_encoder"][1])
    dev = index["_class_name"] == "Flux2Pipeline"
    components: dict[str, Any] = {
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        "text_encoder": encoder_class.from_pretrained(
            folder / "text_encoder", dtype=_stored_dtype(folder / "text_encoder")
        ),
        "transformer": Flux2Transformer2DModel.from_pretrained(
            folder / "transformer", torch_dtype=_stored_dtype(folder / "transformer")
        ),
        "vae": AutoencoderKLFlux2.from_pretrained(
            folder / "vae", torch_dtype=_stored_dtype(folder / "vae")
        ),
        # For dev this stands in for PixtralProcessor, which needs torchvision: without pictures
        # it renders the same template and calls this tokenizer. `test_text_encoding.py` holds
        # the token ids that PixtralProcessor itself gave.
        "tokenizer": transformers.AutoTokenizer.from_pretrained(folder / "tokenizer"),
    }
    if dev:
        pipeline: Any = Flux2Pipeline(**components)
    else:
        pipeline = Flux2KleinPipeline(**components, is_distilled=index["is_distilled"])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffusers_pictures(
    folder: Path,
    request: GenerationRequest,
    *,
    out_layers: Sequence[int],
    references: Sequence[Image.Image] = (),
) -> list[np.ndarray]:
    """What a user of diffusers gets for a request, from a pipeline loaded by diffusers.

    Args:
        folder: Of the model.
        request: Each image with its own seed.
        out_layers: Whose hidden states are read.
        references: Images to follow.
    """
    images: list[Image.Image] = reference_pipeline(folder)(
        image=list(references) or None,
        prompt=request.prompt,
        width=request.width_px,
        height=request.height_px,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        num_images_per_prompt=request.images,
        generator=[
            torch.Generator("cpu").manual_seed(request.seed_of(index))
            for index in range(request.images)
        ],
        text_encoder_out_layers=tuple(out_layers),
    ).images
    return [np.asarray(image) for image in images]


def _stored_dtype(folder: Path) -> torch.dtype:
    file = next(folder.glob("*.safetensors"))
    with safe_open(file, framework="pt") as weights:
        names: list[str] = list(weights.keys())
        dtypes = {weights.get_tensor(name).dtype for name in names}
    (dtype,) = (dtype for dtype in dtypes if dtype.is_floating_point)
    return dtype

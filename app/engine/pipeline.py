"""What is asked of diffusers' pipelines before the first step: prompts and noise."""

import contextlib
from collections.abc import Generator, Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from app.core.request import GenerationRequest
from app.engine.compute_device import ComputeDevice
from app.engine.kept_for_runs import UNCONDITIONAL_PROMPT
from app.engine.latents import patch_px_of, to_grid
from app.engine.loader import LoadedModel
from app.engine.model_folder import GuidanceKind, ModelInfo
from app.engine.text_encoding import encode_prompt

_TRUSTED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Without cuDNN's, which torch prefers on GPUs of data centers: it was wrong there without a word
where few keys serve many queries, as in text encoders (pytorch#193893). Those are not tried."""


def prompts_to_encode(model: LoadedModel, request: GenerationRequest) -> tuple[str, ...]:
    """The prompts a request needs embeddings of, its own first; encoded before or not."""
    return prompts_of(model.info, request)


def prompts_of(info: ModelInfo, request: GenerationRequest) -> tuple[str, ...]:
    """The same before the model is loaded."""
    if info.guidance is GuidanceKind.CFG and request.guidance > 1:
        return request.prompt, UNCONDITIONAL_PROMPT
    return (request.prompt,)


def encode(
    model: LoadedModel, prompts: Sequence[str], device: ComputeDevice
) -> tuple[torch.Tensor, ...]:
    """Embeddings (1, tokens, width) of prompts on the CPU.

    The text encoder runs for new ones, and then has its weights on the device.
    """
    found: list[torch.Tensor] = []
    for prompt in prompts:
        kept = model.embeddings.get(prompt)
        if kept is None:
            with _attention(device):
                made = device.to_host(encode_prompt(model.pipeline, model.info, prompt))
            with device.on_host():
                kept = model.embeddings.put(prompt, made)
        found.append(kept)
    return tuple(found)


@contextlib.contextmanager
def _attention(device: ComputeDevice) -> Generator[None]:
    if device.kind != "cuda":
        yield
        return
    with sdpa_kernel(_TRUSTED):
        yield


def noise(model: LoadedModel, request: GenerationRequest, indices: Sequence[int]) -> torch.Tensor:
    """What images begin with: a grid of latents on the CPU, the same that diffusers begins with.

    Each image's noise comes from a generator of its own on the CPU, on every device: a seed stands
    for the same noise everywhere, and in a batch for the same as alone. torch's CPU generator
    (mt19937) uses the lower 32 bits of a seed, so seeds that are equal in them give the same image,
    as they do with diffusers.

    Args:
        model: Whose transformer says in which precision.
        request: With the size the images are made at.
        indices: Of the images in the request.
    """
    pipeline = model.pipeline
    size = {"width_px": request.width_px, "height_px": request.height_px}
    packed, _ids = pipeline.prepare_latents(
        batch_size=len(indices),
        num_latents_channels=pipeline.transformer.config.in_channels // 4,
        height=request.height_px,
        width=request.width_px,
        dtype=pipeline.transformer.dtype,
        device=torch.device("cpu"),
        generator=[torch.Generator("cpu").manual_seed(request.seed_of(index)) for index in indices],
    )
    return to_grid(packed, **size, patch_px=patch_px_of(pipeline))

"""The phases of a run, on diffusers' own pipelines: the pictures are theirs, bit for bit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.core.events import Preview
from app.core.request import GenerationRequest
from app.engine.devices import synchronize
from app.engine.latents import spatial_latents
from app.engine.loader import LoadedModel
from app.engine.model_folder import GuidanceKind
from app.engine.preview import estimate_clean, preview_of
from app.engine.text_encoding import encode_prompt

UNCONDITIONAL_PROMPT = ""
"""What guidance pushes away from (diffusers Flux2KleinPipeline)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One denoising step that is done: number from 1, steps in all, seconds, preview if wanted."""

    number: int
    total: int
    seconds: float
    preview: Preview | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage:
    """One image: tightly packed RGB rows, or None when what came out is no picture."""

    rgb: bytes | None


def prompts_to_encode(model: LoadedModel, request: GenerationRequest) -> tuple[str, ...]:
    """The prompts a request needs embeddings of, all of them, encoded before or not."""
    if model.info.guidance is GuidanceKind.CFG and request.guidance > 1:
        return request.prompt, UNCONDITIONAL_PROMPT
    return (request.prompt,)


def encode(model: LoadedModel, prompts: Sequence[str]) -> None:
    """Put the embeddings of prompts into the model's cache; the text encoder runs for new ones."""
    for prompt in prompts:
        if prompt not in model.embeddings:
            model.embeddings.put(prompt, encode_prompt(model.pipeline, model.info, prompt))


def denoise(
    model: LoadedModel,
    request: GenerationRequest,
    *,
    previews: bool,
    on_step: Callable[[Step], None],
) -> torch.Tensor:
    """Latents (images, channels, height / 8, width / 8) of all images of a request.

    Each image's noise comes from a generator of its own on the CPU, on every device: a seed stands
    for the same noise everywhere, and in a batch for the same as alone. torch's CPU generator
    (mt19937) uses the lower 32 bits of a seed, so seeds that are equal in them give the same image,
    as they do with diffusers.

    Args:
        model: With the embeddings of the request's prompts.
        request: What to make.
        previews: Whether steps carry a preview of the first image.
        on_step: Called after each step; may raise to stop.
    """
    pipeline = model.pipeline
    watcher = _StepWatcher(model, request, on_step, previews=previews)
    options: dict[str, Any] = {}
    prompts = prompts_to_encode(model, request)
    if UNCONDITIONAL_PROMPT in prompts[1:]:
        options["negative_prompt_embeds"] = _embeddings(model, UNCONDITIONAL_PROMPT)
    guidance = request.guidance
    if model.info.guidance is GuidanceKind.NONE:
        # Ignored all the same; any other value only makes the pipeline warn.
        guidance = 1.0
    latents: torch.Tensor = pipeline(
        prompt_embeds=_embeddings(model, request.prompt),
        width=request.width_px,
        height=request.height_px,
        num_inference_steps=request.steps,
        guidance_scale=guidance,
        num_images_per_prompt=request.images,
        generator=[_generator(request.seed_of(index)) for index in range(request.images)],
        output_type="latent",
        return_dict=False,
        callback_on_step_end=watcher.on_step_end,
        **options,
    )[0]
    if latents.ndim == 3:  # Packed: Flux2Pipeline, unlike Flux2KleinPipeline.
        return spatial_latents(
            pipeline, latents, width_px=request.width_px, height_px=request.height_px
        )
    return latents


def decode(model: LoadedModel, latents: torch.Tensor) -> tuple[DecodedImage, ...]:
    """The images of latents (images, channels, height / 8, width / 8), any device."""
    pipeline = model.pipeline
    autoencoder = pipeline.vae
    with torch.no_grad():
        pixels = autoencoder.decode(latents.to(model.device, autoencoder.dtype), return_dict=False)[
            0
        ]
    pipeline.maybe_free_model_hooks()
    return tuple(_to_image(pipeline, image) for image in pixels)


def _to_image(pipeline: Any, pixels: torch.Tensor) -> DecodedImage:  # noqa: ANN401
    """An image of decoded pixels (3, height, width), from about -1 to 1."""
    # Numbers that are not finite would become arbitrary colours, not a visible mistake.
    if not bool(torch.isfinite(pixels).all()):
        return DecodedImage(rgb=None)
    picture = pipeline.image_processor.postprocess(pixels[None], output_type="pil")[0]
    blank = all(low == high for low, high in picture.getextrema())
    return DecodedImage(rgb=None if blank else picture.tobytes())


def _embeddings(model: LoadedModel, prompt: str) -> torch.Tensor:
    found = model.embeddings.get(prompt)
    if found is None:
        # Dropped by the cache in between: a second prompt did not fit beside it.
        return encode_prompt(model.pipeline, model.info, prompt)
    return found.to(model.device)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


class _StepWatcher:
    """Receives the pipeline's callback after each step, and makes a `Step` of it."""

    def __init__(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        on_step: Callable[[Step], None],
        *,
        previews: bool,
    ) -> None:
        self._model = model
        self._request = request
        self._on_step = on_step
        self._previews = previews and model.preview_matrix is not None
        self._before = self._noise() if self._previews else None
        self._started_s = time.perf_counter()

    def on_step_end(
        self,
        pipeline: Any,  # noqa: ANN401 - a pipeline of diffusers
        index: int,
        _timestep: object,
        values: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """What diffusers calls: `index` from 0, `values` with "latents" after the step."""
        synchronize(self._model.device)
        now_s = time.perf_counter()
        preview = None
        if self._before is not None:
            after = values["latents"][0].float().cpu()
            sigmas = pipeline.scheduler.sigmas
            clean = estimate_clean(
                self._before, after, float(sigmas[index]), float(sigmas[index + 1])
            )
            preview = preview_of(
                self._model,
                clean,
                width_px=self._request.width_px,
                height_px=self._request.height_px,
            )
            self._before = after
        step = Step(
            number=index + 1,
            total=self._request.steps,
            seconds=now_s - self._started_s,
            preview=preview,
        )
        self._started_s = now_s
        self._on_step(step)
        return {}

    def _noise(self) -> torch.Tensor:
        """The first image's latents before the first step, which no callback shows."""
        pipeline = self._model.pipeline
        latents, _ids = pipeline.prepare_latents(
            batch_size=1,
            num_latents_channels=pipeline.transformer.config.in_channels // 4,
            height=self._request.height_px,
            width=self._request.width_px,
            dtype=pipeline.transformer.dtype,
            device=torch.device("cpu"),
            generator=[_generator(self._request.seed_of(0))],
        )
        return latents[0].float()

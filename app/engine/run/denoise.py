"""Denoising from any step on, by diffusers' own pipelines: the pictures are theirs, bit for bit.

After each step the latents are handed out on the CPU. Called again with them, the pipeline goes on
as if it had never stopped: it is given the noise levels that are left, and the same number of steps
in all, from which it takes their shift.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.core.events import Preview
from app.core.request import GenerationRequest
from app.engine.compute_device import ComputeDevice
from app.engine.latents import patch_px_of, to_grid
from app.engine.loader import LoadedModel
from app.engine.model_folder import GuidanceKind
from app.engine.preview import estimate_clean, preview_of
from app.engine.reference_latents import given_references


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenoiseTask:
    """Images that are denoised together, and how far they are.

    Attributes:
        request: What to make, with the size it is made at.
        embeddings: Of the prompt, and of what guidance pushes away from where it does.
        latents: A grid on the CPU.
        step: Denoising steps that are done.
        references: Reference images as `encode_reference` gives them, in order.
    """

    request: GenerationRequest
    embeddings: Sequence[torch.Tensor]
    latents: torch.Tensor
    step: int = 0
    references: Sequence[torch.Tensor] = ()

    @property
    def passes(self) -> int:
        """Through the transformer, in all steps that are left: one a step for each embedding."""
        return max(0, self.request.steps - self.step) * len(self.embeddings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One denoising step that is done.

    Attributes:
        number: From 1.
        total: Steps in all.
        seconds: It took.
        latents: After it, a grid on the CPU.
        preview: Of the first image, or None when none is wanted.
    """

    number: int
    total: int
    seconds: float
    latents: torch.Tensor
    preview: Preview | None


def denoise(
    model: LoadedModel,
    task: DenoiseTask,
    device: ComputeDevice,
    *,
    previews: bool,
    on_step: Callable[[Step], None],
) -> None:
    """Do the steps that are left; the transformer's weights are on the device.

    Args:
        model: To denoise with.
        task: The images.
        device: To compute on.
        previews: Whether steps carry a preview.
        on_step: Called after each step; may raise to stop.
    """
    request = task.request
    if task.step >= request.steps:
        return
    embeddings = [device.to_device(one) for one in task.embeddings]
    options: dict[str, Any] = {}
    if len(embeddings) > 1:
        options["negative_prompt_embeds"] = embeddings[1]
    guidance = request.guidance
    if model.info.guidance is GuidanceKind.NONE:
        # Ignored all the same; any other value only makes the pipeline warn.
        guidance = 1.0
    sigmas = np.linspace(1.0, 1 / request.steps, request.steps)  # diffusers' own, before the shift
    with given_references(model.pipeline, task.references, device) as images:
        model.pipeline(
            prompt_embeds=embeddings[0],
            width=request.width_px,
            height=request.height_px,
            num_inference_steps=request.steps,
            sigmas=sigmas[task.step :],
            guidance_scale=guidance,
            num_images_per_prompt=len(task.latents),
            latents=device.to_device(task.latents),
            output_type="latent",
            return_dict=False,
            callback_on_step_end=_StepWatcher(model, task, device, on_step, previews=previews),
            **options,
            **images,
        )


class _StepWatcher:
    """What diffusers calls after each step; makes a `Step` of it."""

    def __init__(
        self,
        model: LoadedModel,
        task: DenoiseTask,
        device: ComputeDevice,
        on_step: Callable[[Step], None],
        *,
        previews: bool,
    ) -> None:
        self._model = model
        self._task = task
        self._device = device
        self._on_step = on_step
        self._previews = previews and model.preview_matrix is not None
        self._before = task.latents[:1]
        self._began_s = device.clock_s()

    def __call__(
        self,
        pipeline: Any,  # noqa: ANN401 - a pipeline of diffusers
        index: int,
        _timestep: object,
        values: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Take a step's result: `index` from 0 in this call, `values` with "latents"."""
        device, request = self._device, self._task.request
        device.synchronize()
        now_s = device.clock_s()
        packed = device.to_host(values["latents"])
        with device.on_host():
            latents = to_grid(
                packed,
                width_px=request.width_px,
                height_px=request.height_px,
                patch_px=patch_px_of(pipeline),
            )
            preview = None
            if self._previews:
                sigmas = pipeline.scheduler.sigmas
                preview = self._preview(latents, float(sigmas[index]), float(sigmas[index + 1]))
            self._before = latents[:1]
            number = self._task.step + index + 1
            device.note_step(number)
            self._on_step(
                Step(
                    number=number,
                    total=request.steps,
                    seconds=now_s - self._began_s,
                    latents=latents,
                    preview=preview,
                )
            )
        self._began_s = device.clock_s()
        return {}

    def _preview(self, latents: torch.Tensor, sigma: float, next_sigma: float) -> Preview:
        before, after = self._before[0].float(), latents[0].float()
        return preview_of(self._model, estimate_clean(before, after, sigma, next_sigma))

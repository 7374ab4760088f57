"""The phases of a run as the engine has diffusers' pipelines do them, on networks of any kind.

The same calls are made on tensors without data, to forecast, and on real ones, to measure.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from app.core.request import MAX_PROMPT_TOKENS
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.forecast.model_spec import ModelSpec
from app.engine.forecast.networks import Networks, Untyped
from app.engine.latents import to_spatial
from app.engine.libraries import diffusers_class
from app.engine.model_components import KLEIN
from app.engine.model_folder import GuidanceKind
from app.engine.request_counts import PATCH_PX, reference_size
from app.engine.tiling import decode_latents

_STEPS = 2
"""The second step has beside it what diffusers keeps of the first; more are like it."""
_TEXT_TOKENS = 32
"""Of a prompt that is padded to MAX_PROMPT_TOKENS."""


class PhaseCalls:
    """The phases of one model with given networks, which decide device and precision."""

    def __init__(
        self, spec: ModelSpec, networks: Networks, *, beside: ComputeDevice | None = None
    ) -> None:
        """Take the networks; each phase needs its own only.

        Args:
            spec: Of the model.
            networks: All on one device, in one precision.
            beside: Says how tiles go to RAM; None has blank ones there.
        """
        self._spec = spec
        self._networks = networks
        self._beside = BlankInRam() if beside is None else beside

    def encode(self) -> torch.Tensor:
        """One prompt's embeddings; the engine makes several one after the other."""
        networks = self._networks
        pipeline = self._pipeline(text_encoder=networks.text_encoder, tokenizer=AnyPrompt())
        embeddings, _ids = pipeline.encode_prompt(
            prompt="any", text_encoder_out_layers=self._spec.text_out_layers
        )
        return embeddings.to(networks.dtype)

    def denoise(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: Sequence[tuple[int, int]] = (),
    ) -> torch.Tensor:
        """Two steps of the pipeline's loop, with both passes where guidance needs them.

        Args:
            images: Denoised at once.
            width_px: Of the images.
            height_px: Of the images.
            references: Width and height of each reference image in pixels.
        """
        networks = self._networks
        pipeline = self._pipeline(transformer=networks.transformer, vae=networks.autoencoder)
        guided = self._spec.guidance is GuidanceKind.CFG
        width = networks.transformer.config.joint_attention_dim
        prompts = [self._zeros(1, MAX_PROMPT_TOKENS, width) for _ in range(1 + guided)]
        options: dict[str, Any] = {}
        if guided:
            options["negative_prompt_embeds"] = prompts[1]
        if references:
            sizes = [reference_size(*size) for size in references]
            options["image"] = [Image.new("RGB", size) for size in sizes]
            # Their encoding is a phase of its own.
            pipeline._encode_vae_image = self._encoded_image
        return pipeline(
            prompt_embeds=prompts[0],
            width=width_px,
            height=height_px,
            num_inference_steps=_STEPS,
            guidance_scale=4.0 if guided else 1.0,
            num_images_per_prompt=images,
            # As the engine hands them over, and the pipeline's frame keeps them.
            latents=self._grid(images, width_px, height_px),
            output_type="latent",
            return_dict=False,
            **options,
        )[0]

    def decode(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        tile_px: int | None = None,
        in_ram: bool = False,
    ) -> torch.Tensor:
        """A batch of latents to pixels.

        Args:
            images: Decoded at once.
            width_px: Of the images.
            height_px: Of the images.
            tile_px: Side of tiles; None decodes whole.
            in_ram: Whether tiles are joined in the memory that is counted, as on the CPU.
        """
        autoencoder = self._networks.autoencoder
        pipeline = self._pipeline(vae=autoencoder)
        device = None if in_ram or tile_px is None else self._beside
        grid = self._grid(images, width_px, height_px)
        latents = to_spatial(pipeline, grid)
        return decode_latents(autoencoder, latents, tile_px=tile_px, device=device)

    def encode_reference(self, *, width_px: int, height_px: int) -> torch.Tensor:
        """One reference image to latents."""
        pipeline = self._pipeline(vae=self._networks.autoencoder)
        pixels = self._zeros(1, 3, height_px, width_px)
        return pipeline._encode_vae_image(pixels, generator=None)

    def _grid(self, images: int, width_px: int, height_px: int) -> torch.Tensor:
        channels = 4 * self._networks.autoencoder.config.latent_channels
        return self._zeros(images, channels, height_px // PATCH_PX, width_px // PATCH_PX)

    def _encoded_image(self, image: torch.Tensor, **_options: object) -> torch.Tensor:
        height_px, width_px = image.shape[-2:]
        return self._grid(1, width_px, height_px)

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=self._networks.dtype, device=self._networks.device)

    def _pipeline(self, **parts: Untyped) -> Untyped:
        components: dict[str, Any] = {
            "scheduler": any_scheduler(),
            "vae": None,
            "text_encoder": None,
            "tokenizer": None,
            "transformer": None,
        }
        components.update(parts)
        if self._spec.layout is KLEIN:
            components["is_distilled"] = self._spec.distilled
        pipeline: Any = diffusers_class(self._spec.layout.pipeline_class)(**components)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class BlankInRam(CpuDevice):
    """A device that pixels leave for RAM, which is not counted."""

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Pixels in RAM, without a picture in them."""
        return torch.zeros(tensor.shape, dtype=tensor.dtype)


class AnyPrompt:
    """A tokenizer's place: any prompt, padded as the pipelines have it padded."""

    def apply_chat_template(
        self, *_messages: object, tokenize: bool, **_options: object
    ) -> Untyped:
        return self() if tokenize else "any"

    def __call__(self, *_texts: object, **_options: object) -> dict[str, torch.Tensor]:
        mask = torch.zeros(1, MAX_PROMPT_TOKENS, dtype=torch.int64)
        mask[:, :_TEXT_TOKENS] = 1
        return {"input_ids": torch.zeros_like(mask), "attention_mask": mask}


def any_scheduler() -> Untyped:
    """FLUX.2's own settings; they decide numbers, not sizes."""
    return diffusers_class("FlowMatchEulerDiscreteScheduler")(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=4096,
        max_shift=1.15,
        num_train_timesteps=1000,
        shift=3.0,
        time_shift_type="exponential",
        use_dynamic_shifting=True,
    )

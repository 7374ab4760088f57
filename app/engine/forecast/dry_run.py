"""One model's phases run on tensors without data, by the pipelines' own code.

What lives on the device is counted as in the engine: its inputs, what diffusers keeps from step to
step, what each operation makes. The weights are counted apart.
"""

import functools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from app.core.policy import Precision
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.coefficients import PATCH_PX, reference_size
from app.engine.compute_device import CpuDevice
from app.engine.forecast.fused_kernels import Attention, FusedKernels
from app.engine.forecast.model_spec import ModelSpec
from app.engine.forecast.networks import (
    DTYPES,
    Untyped,
    build_autoencoder,
    build_text_encoder,
    build_transformer,
)
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.latents import to_spatial
from app.engine.libraries import diffusers_class
from app.engine.model_components import KLEIN
from app.engine.model_folder import GuidanceKind
from app.engine.tiling import decode_latents

_STEPS = 2
"""The second step has beside it what diffusers keeps of the first; more are like it."""
_TEXT_TOKENS = 32
"""Of a prompt that is padded to MAX_PROMPT_TOKENS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a phase needed.

    Attributes:
        working_bytes: Peak above the weights.
        flops: Of one pass of the network.
        moments: Live bytes above the weights after each operation within the network, then the
            largest outside it. Phases of equal shape have equal operations.
    """

    working_bytes: int
    flops: int
    moments: tuple[int, ...] = field(repr=False)


class DryRun:
    """The phases of one model in one precision."""

    def __init__(
        self,
        spec: ModelSpec,
        precision: Precision,
        *,
        attention: Attention = Attention.FUSED,
        shallow: bool = False,
    ) -> None:
        """Build nothing yet.

        Args:
            spec: Of the model.
            precision: BF16 or FP32.
            attention: How attention is computed on the device.
            shallow: Whether the transformer has two blocks of each kind only: the same peak in
                less time; its `flops` are then of no use.
        """
        self._spec = spec
        self._dtype = DTYPES[precision]
        self._attention = attention
        self._shallow = shallow

    @functools.cached_property
    def transformer(self) -> Untyped:
        """The transformer, without data."""
        return build_transformer(self._spec, self._dtype, shallow=self._shallow)

    @functools.cached_property
    def autoencoder(self) -> Untyped:
        """The autoencoder, without data."""
        return build_autoencoder(self._spec, self._dtype)

    @functools.cached_property
    def text_encoder(self) -> Untyped:
        """The text encoder, without data."""
        return build_text_encoder(self._spec, self._dtype)

    def encode(self) -> Measured:
        """One prompt's embeddings; the engine makes several one after the other."""
        pipeline = self._pipeline(text_encoder=self.text_encoder, tokenizer=_AnyPrompt())
        with self._watch() as watch:
            embeddings, _ids = pipeline.encode_prompt(
                prompt="any", text_encoder_out_layers=self._spec.text_out_layers
            )
            embeddings = embeddings.to(self._dtype)
        return watch.measured()

    def denoise(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: Sequence[tuple[int, int]] = (),
    ) -> Measured:
        """Two steps of the pipeline's loop, with both passes where guidance needs them.

        Args:
            images: Denoised at once.
            width_px: Of the images.
            height_px: Of the images.
            references: Width and height of each reference image in pixels.
        """
        pipeline = self._pipeline(transformer=self.transformer, vae=self.autoencoder)
        guided = self._spec.guidance is GuidanceKind.CFG
        width = self.transformer.config.joint_attention_dim
        options: dict[str, Any] = {}
        with self._watch() as watch:
            prompts = [self._empty(1, MAX_PROMPT_TOKENS, width) for _ in range(1 + guided)]
            if guided:
                options["negative_prompt_embeds"] = prompts[1]
            if references:
                sizes = [reference_size(*size) for size in references]
                options["image"] = [Image.new("RGB", size) for size in sizes]
            watch.attend_to(self.transformer)
            pipeline(
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
            )
        return watch.measured()

    def decode(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        tile_px: int | None = None,
        in_ram: bool = False,
    ) -> Measured:
        """A batch of latents to pixels.

        Args:
            images: Decoded at once.
            width_px: Of the images.
            height_px: Of the images.
            tile_px: Side of tiles; None decodes whole.
            in_ram: Whether tiles are joined in the memory that is counted, as on the CPU.
        """
        pipeline = self._pipeline(vae=self.autoencoder)
        device = None if in_ram else _TilesLeave()
        with self._watch() as watch:
            grid = self._grid(images, width_px, height_px)
            latents = to_spatial(pipeline, grid)
            decode_latents(self.autoencoder, latents, tile_px=tile_px, device=device)
        return watch.measured()

    def encode_reference(self, *, width_px: int, height_px: int) -> Measured:
        """One reference image to latents."""
        pipeline = self._pipeline(vae=self.autoencoder)
        with self._watch() as watch:
            pixels = self._empty(1, 3, height_px, width_px)
            pipeline._encode_vae_image(pixels, generator=None)
        return watch.measured()

    def _grid(self, images: int, width_px: int, height_px: int) -> torch.Tensor:
        channels = 4 * self.autoencoder.config.latent_channels
        return self._empty(images, channels, height_px // PATCH_PX, width_px // PATCH_PX)

    def _empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self._dtype, device="meta")

    def _pipeline(self, **parts: Untyped) -> Untyped:
        components: dict[str, Any] = {
            "scheduler": _scheduler(),
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

    @contextmanager
    def _watch(self) -> Generator["_Watch"]:
        storages = PhaseStorages("meta")
        watch = _Watch(storages)
        with torch.no_grad(), FusedKernels(self._attention), storages:
            try:
                yield watch
            finally:
                watch.close()


class _Watch:
    """Turns what was seen into figures; knows when the network was running."""

    def __init__(self, storages: PhaseStorages) -> None:
        self._storages = storages
        self._runs: list[tuple[int, int]] = []
        self._flops: list[int] = []
        self._handles: list[Any] = []
        self._begun = (0, 0)

    def attend_to(self, network: Untyped) -> None:
        """Tell moments within this network from those outside, and begin with its first run."""
        self._handles = [
            network.register_forward_pre_hook(self._before),
            network.register_forward_hook(self._after),
        ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def measured(self) -> Measured:
        history = self._storages.history
        runs = self._runs or [(0, len(history))]
        inside = [value for begin, end in runs for value in history[begin:end]]
        # Between and after the runs; what came before, such as reference images being encoded, is
        # another phase.
        ends = [begin for begin, _end in runs[1:]] + [len(history)]
        outside = [
            value
            for (_begin, end), following in zip(runs, ends, strict=True)
            for value in history[end:following]
        ]
        moments = (*inside, max(outside, default=0))
        return Measured(
            working_bytes=max(moments),
            flops=self._flops[-1] if self._flops else self._storages.flops,
            moments=moments,
        )

    def _before(self, *_call: object) -> None:
        self._begun = (len(self._storages.history), self._storages.flops)

    def _after(self, *_call: object) -> None:
        begin, flops = self._begun
        self._runs.append((begin, len(self._storages.history)))
        self._flops.append(self._storages.flops - flops)


class _TilesLeave(CpuDevice):
    """A device that pixels leave for RAM, which is not counted."""

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """Pixels in RAM, without a picture in them."""
        return torch.zeros(tensor.shape, dtype=tensor.dtype)


class _AnyPrompt:
    """A tokenizer's place: any prompt, padded as the pipelines have it padded."""

    def apply_chat_template(
        self, *_messages: object, tokenize: bool, **_options: object
    ) -> Untyped:
        return self() if tokenize else "any"

    def __call__(self, *_texts: object, **_options: object) -> dict[str, torch.Tensor]:
        mask = torch.zeros(1, MAX_PROMPT_TOKENS, dtype=torch.int64)
        mask[:, :_TEXT_TOKENS] = 1
        return {"input_ids": torch.zeros_like(mask), "attention_mask": mask}


def _scheduler() -> Untyped:
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

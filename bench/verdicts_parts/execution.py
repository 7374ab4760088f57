"""A plan carried out phase by phase, by the engine's own functions, as `app.engine.run` does."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from app.core.jobs import Phase
from app.core.plan import GenerationPlan
from app.core.policy import Precision
from app.core.request import GenerationRequest
from app.engine.loader import LoadedModel
from app.engine.pipeline import encode, prompts_to_encode
from app.engine.placement import Placer
from app.engine.planning.components import AUTOENCODER, TEXT_ENCODER, TRANSFORMER
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.ways import forced_way
from app.engine.reference_latents import encode_reference
from app.engine.run.decode import decode
from app.engine.run.denoise import DenoiseTask, Step, denoise
from bench.verdicts_parts.device import RealSizeDevice

STEPS = 2
"""The second step has beside it what diffusers keeps of the first; more are like it."""
_LATENT_CHANNELS = 128
_PREVIEW_PX = 256
_WAYS = {Precision.FP8: Way.FP8_SCALED_AFTER, Precision.INT8: Way.INT8_ROWS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What is carried out.

    Attributes:
        plan: To follow.
        request: It was made for.
        references: Width and height of each reference image.
        native: Whether quantized layers are multiplied by the GPU's units for 8 bits.
    """

    plan: GenerationPlan
    request: GenerationRequest
    references: tuple[tuple[int, int], ...] = ()
    native: bool = False

    def run(self, model: LoadedModel, device: RealSizeDevice) -> None:
        """All phases, until the last or until memory runs out.

        Raises:
            torch.OutOfMemoryError: It ran out on the device's first card.
        """
        placer = Placer(model.hosts, device)
        try:
            with self._ways():
                self._load(model, device, placer)
                embeddings, references = self._encode(model, device, placer)
                grids = self._denoise(model, device, placer, embeddings, references)
                self._decode(model, device, placer, grids)
                device.begin_phase(Phase.SAVE)
        finally:
            for name in model.hosts:
                placer.forget(name)

    @contextlib.contextmanager
    def _ways(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            for precision, way in _WAYS.items():
                chosen = way if self.native else Way.DEQUANTIZE
                stack.enter_context(forced_way(precision, chosen))
            yield

    def _load(self, model: LoadedModel, device: RealSizeDevice, placer: Placer) -> None:
        device.begin_phase(Phase.LOAD)
        placer.replace(self.plan.components)
        if not self.plan.phase(Phase.LOAD).working_bytes:
            return  # There is no room for previews, as the engine has it.
        autoencoder = model.pipeline.vae
        # What previews are fitted with; the fit itself is the CPU's.
        with placer.phase(AUTOENCODER), device.watch(Phase.LOAD), torch.no_grad():
            picture = torch.zeros(1, 3, _PREVIEW_PX, _PREVIEW_PX, dtype=autoencoder.dtype)

            def encode_picture() -> torch.Tensor:
                pixels = device.to_device(picture)
                return device.to_host(autoencoder.encode(pixels).latent_dist.mode())

            device.traced(("preview", *self._precision(AUTOENCODER)), (), encode_picture)

    def _encode(
        self, model: LoadedModel, device: RealSizeDevice, placer: Placer
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        device.begin_phase(Phase.ENCODE)
        with placer.phase(TEXT_ENCODER), device.watch(Phase.ENCODE):
            prompts = prompts_to_encode(model, self.request)
            embeddings = device.traced(
                ("encode", self.plan.model, len(prompts), *self._precision(TEXT_ENCODER)),
                model.hosts[TEXT_ENCODER].modules,
                lambda: encode(model, prompts, device),
            )
        references: list[torch.Tensor] = []
        for size in self.references:
            with placer.phase(AUTOENCODER), device.watch(Phase.ENCODE):
                picture = Image.new("RGB", size)
                latents = device.traced(
                    ("reference", size, *self._precision(AUTOENCODER)),
                    (),
                    lambda picture=picture: encode_reference(model, picture, device),
                )
                references.append(latents)
        return embeddings, references

    def _denoise(
        self,
        model: LoadedModel,
        device: RealSizeDevice,
        placer: Placer,
        embeddings: Sequence[torch.Tensor],
        references: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        plan = self.plan
        request = replace(
            self.request, width_px=plan.width_px, height_px=plan.height_px, steps=STEPS
        )
        grids: list[torch.Tensor] = []
        device.begin_phase(Phase.DENOISE)
        while len(grids) < plan.images:
            part = min(plan.batch, plan.images - len(grids))
            shape = (part, _LATENT_CHANNELS, plan.height_px // 16, plan.width_px // 16)
            task = DenoiseTask(
                request=request,
                embeddings=embeddings,
                latents=torch.zeros(shape, dtype=model.pipeline.transformer.dtype),
                references=references,
            )
            key = ("denoise", plan.model, len(embeddings), shape, self.references)
            with placer.phase(TRANSFORMER), device.watch(Phase.DENOISE):
                done = device.traced(
                    (*key, *self._precision(TRANSFORMER)),
                    model.hosts[TRANSFORMER].modules,
                    lambda task=task: _denoised(model, task, device),
                )
            grids += done
        return grids

    def _decode(
        self,
        model: LoadedModel,
        device: RealSizeDevice,
        placer: Placer,
        grids: Sequence[torch.Tensor],
    ) -> None:
        device.begin_phase(Phase.DECODE)
        if self.plan.decode_on_cpu:
            return  # Nothing of it is on the device.
        for begin in range(0, len(grids), self.plan.decode_batch):
            group = torch.stack(list(grids[begin : begin + self.plan.decode_batch]))
            key = ("decode", tuple(group.shape), self.plan.tile_px)
            with placer.phase(AUTOENCODER), device.watch(Phase.DECODE):
                device.traced(
                    (*key, *self._precision(AUTOENCODER)),
                    (),
                    lambda group=group: decode(model, group, device, tile_px=self.plan.tile_px),
                )

    def _precision(self, component: str) -> tuple[Precision, bool]:
        return self.plan.component(component).precision, self.native


def _denoised(model: LoadedModel, task: DenoiseTask, device: RealSizeDevice) -> list[torch.Tensor]:
    done: list[torch.Tensor] = []

    def on_step(step: Step) -> None:
        done[:] = list(step.latents)

    denoise(model, task, device, previews=False, on_step=on_step)
    return done

"""Decoding: from latents to pixels, whole or in tiles, on the device or on the CPU."""

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from app.core.plan import GenerationPlan
from app.engine.compute_device import ComputeDevice
from app.engine.full_precision import full_precision_copy
from app.engine.latents import to_spatial
from app.engine.loader import LoadedModel
from app.engine.tiling import decode_latents

log = logging.getLogger(__name__)


class Flaw(Enum):
    """Why what came out of the autoencoder is no picture."""

    NOT_FINITE = "numbers that are not finite"
    BLANK = "the same colour everywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage:
    """One image: tightly packed RGB rows, or None and why when what came out is no picture."""

    rgb: bytes | None
    flaw: Flaw | None = None


def decode(
    model: LoadedModel, grid: torch.Tensor, device: ComputeDevice, *, tile_px: int | None = None
) -> list[DecodedImage]:
    """The images of latents; the autoencoder's weights are on the device.

    Args:
        model: Whose autoencoder decodes.
        grid: Latents on the CPU.
        device: To compute on.
        tile_px: Side of tiles in image pixels; None decodes whole.
    """
    autoencoder = model.pipeline.vae
    with torch.no_grad():
        latents = to_spatial(model.pipeline, device.to_device(grid)).to(autoencoder.dtype)
        pixels = decode_latents(autoencoder, latents, tile_px=tile_px, device=device)
        with device.on_host():
            return [_to_image(model.pipeline, image) for image in pixels]


def decode_on_cpu(
    model: LoadedModel, grid: torch.Tensor, *, tile_px: int | None = None
) -> list[DecodedImage]:
    """The same by the CPU, with the autoencoder's weights in RAM, in full precision.

    Processors are slow in half precision, and round more than a GPU does.
    """
    autoencoder = model.pipeline.vae
    # Where reference images are encoded on the device, its weights may be there.
    if autoencoder.dtype != torch.float32 or autoencoder.device.type != "cpu":
        autoencoder = full_precision_copy(autoencoder)
    with torch.no_grad():
        latents = to_spatial(model.pipeline, grid).to(autoencoder.dtype)
        pixels = decode_latents(autoencoder, latents, tile_px=tile_px)
        return [_to_image(model.pipeline, image) for image in pixels]


def decode_as_planned(
    model: LoadedModel, grid: torch.Tensor, device: ComputeDevice, plan: GenerationPlan
) -> list[DecodedImage]:
    """The images of latents as a plan says.

    What half precision made numbers of that are not finite is decoded once more by the CPU: fp16,
    which GPUs without bf16 compute in, ends at 65504, and the latents are as good as before.
    """
    if plan.decode_on_cpu:
        with device.on_host():
            return decode_on_cpu(model, grid, tile_px=plan.tile_px)
    found = decode(model, grid, device, tile_px=plan.tile_px)
    broken = [index for index, image in enumerate(found) if image.flaw is Flaw.NOT_FINITE]
    exact = device.kind == "cpu" and model.pipeline.vae.dtype == torch.float32
    if not broken or exact:
        return found
    log.info("%d image(s) are decoded once more in full precision by the CPU", len(broken))
    with device.on_host():
        again = decode_on_cpu(model, grid[broken], tile_px=plan.tile_px)
    for index, image in zip(broken, again, strict=True):
        found[index] = image
    return found


def _to_image(pipeline: Any, pixels: torch.Tensor) -> DecodedImage:  # noqa: ANN401
    """An image of decoded pixels (3, height, width), from about -1 to 1."""
    # Numbers that are not finite would become arbitrary colours, not a visible mistake.
    if not bool(torch.isfinite(pixels).all()):
        return DecodedImage(rgb=None, flaw=Flaw.NOT_FINITE)
    picture = pipeline.image_processor.postprocess(pixels[None], output_type="pil")[0]
    if all(low == high for low, high in picture.getextrema()):
        return DecodedImage(rgb=None, flaw=Flaw.BLANK)
    return DecodedImage(rgb=picture.tobytes())

"""Reference images as the transformer reads them: latents, encoded once and given to each run.

diffusers' pipelines would encode them again in every call, with the autoencoder on the device while
the transformer is; here the encode phase does it, and the pipelines are handed the result.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Generator, Sequence
from typing import Any

import torch
from PIL import Image

from app.engine.compute_device import ComputeDevice
from app.engine.full_precision import full_precision_copy
from app.engine.latents import patch_px_of
from app.engine.loader import LoadedModel

MAX_AREA_PX = 1024 * 1024
"""Larger ones are made smaller (diffusers Flux2Pipeline, Flux2KleinPipeline)."""
CAPACITY_BYTES = 64 << 20
"""About thirty of a megapixel."""
_PLACEHOLDER = (64, 64)
"""The smallest picture that the pipelines take."""


class ReferenceCache:
    """Latents by the digest of a picture's file, in RAM; those unused for longest make room."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._entries

    def get(self, digest: str) -> torch.Tensor | None:
        """A grid of one image on the CPU, or None."""
        grid = self._entries.get(digest)
        if grid is not None:
            self._entries.move_to_end(digest)
        return grid

    def put(self, digest: str, grid: torch.Tensor) -> None:
        """Keep a grid that is on the CPU."""
        former = self._entries.pop(digest, None)
        self._size_bytes += grid.nbytes - (0 if former is None else former.nbytes)
        self._entries[digest] = grid
        while self._size_bytes > self._capacity_bytes and len(self._entries) > 1:
            _digest, dropped = self._entries.popitem(last=False)
            self._size_bytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget all: another model is loaded, whose latents are others."""
        self._entries.clear()
        self._size_bytes = 0


def encode_reference(
    model: LoadedModel, picture: Image.Image, device: ComputeDevice
) -> torch.Tensor:
    """A picture as normalized latents; the autoencoder's weights are on the device.

    Args:
        model: Whose autoencoder encodes.
        picture: RGB, of any size that the pipelines take.
        device: To compute on.

    Returns:
        A grid (1, channels * 4, height / 16, width / 16) on the CPU, in the autoencoder's
        precision: the same numbers as diffusers' pipelines make of the picture.
    """
    pipeline = model.pipeline
    with device.on_host():
        pixels = pixels_of(pipeline, picture).to(pipeline.vae.dtype)
    with torch.no_grad():
        grid = pipeline._encode_vae_image(device.to_device(pixels), generator=None)
    return device.to_host(grid)


def encode_reference_on_cpu(model: LoadedModel, picture: Image.Image) -> torch.Tensor:
    """The same by the CPU, with the autoencoder's weights in RAM, in full precision."""
    pipeline = model.pipeline
    usual = pipeline.vae
    autoencoder = usual if usual.dtype == torch.float32 else full_precision_copy(usual)
    try:
        pipeline.vae = autoencoder
        with torch.no_grad():
            grid = pipeline._encode_vae_image(pixels_of(pipeline, picture), generator=None)
    finally:
        pipeline.vae = usual
    return grid.to(usual.dtype)


@contextlib.contextmanager
def given_references(
    pipeline: Any,  # noqa: ANN401 - a pipeline of diffusers
    grids: Sequence[torch.Tensor],
    device: ComputeDevice,
) -> Generator[dict[str, Any]]:
    """Have the next call of a pipeline read reference images that are encoded already.

    Args:
        pipeline: To be called once within.
        grids: As `encode_reference` gives them, in order; may be none.
        device: The pipeline computes on.

    Yields:
        Further arguments of the call.
    """
    if not grids:
        yield {}
        return
    left = iter(grids)

    def encoded(image: torch.Tensor, generator: object) -> torch.Tensor:
        del image, generator
        # Not before, and not kept: the pipeline lets go of it once it has put all together.
        return device.to_device(next(left))

    pipeline._encode_vae_image = encoded
    try:
        # Only their number counts; what they would be encoded to is at hand.
        yield {"image": [Image.new("RGB", _PLACEHOLDER) for _grid in grids]}
    finally:
        # An attribute of this object hid the class's method.
        del pipeline._encode_vae_image


def pixels_of(pipeline: Any, picture: Image.Image) -> torch.Tensor:  # noqa: ANN401
    """What the pipelines make of a picture before they encode it: (1, 3, height, width)."""
    processor, patch_px = pipeline.image_processor, patch_px_of(pipeline)
    if picture.width * picture.height > MAX_AREA_PX:
        picture = processor._resize_to_target_area(picture, MAX_AREA_PX)
    return processor.preprocess(
        picture,
        height=picture.height // patch_px * patch_px,
        width=picture.width // patch_px * patch_px,
        resize_mode="crop",
    )

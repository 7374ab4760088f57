"""Decoding in tiles whose size is given in image pixels.

diffusers' own tiling begins above 1024 px for this autoencoder and takes tiles of 1024 px, so it
cannot help where memory is shortest. Here tiles overlap and are blended. What a tile cannot see,
the normalization over the whole picture and the attention across it, keeps a tiled picture from
being the same bit for bit; `bench/tiled_decode.py` measures by how much. With the demo's
autoencoder a wave leaves weaker seams than a line, and dropping the tiles' edges gains nothing on
top of it; half the overlap would do, but the released autoencoders see further.
"""

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch

from app.engine.compute_device import ComputeDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """How neighbouring tiles become one picture; the defaults rest on the bench.

    Attributes:
        overlap_share: Of a tile's side, shared with its neighbour.
        margin_share: Of the overlap, dropped at either edge; below one half.
        cosine: Whether the rest is blended by half a cosine wave, else by a straight line.
    """

    overlap_share: float = 0.25
    margin_share: float = 0.0
    cosine: bool = True


BLEND = Blend()


def decode_latents(
    autoencoder: Any,  # noqa: ANN401 - AutoencoderKLFlux2
    latents: torch.Tensor,
    *,
    tile_px: int | None = None,
    device: ComputeDevice | None = None,
    blend: Blend = BLEND,
) -> torch.Tensor:
    """The pixels of latents: whole and all at once, or one image and one tile at a time.

    Args:
        autoencoder: Its weights are where the latents are.
        latents: (images, channels, height / 8, width / 8) in its precision.
        tile_px: Side of tiles in image pixels, with their overlap; None decodes whole, bit for bit
            as diffusers does, and so does a size that covers the picture, one image at a time.
        device: That the latents are on, to have the pixels in RAM and only one tile at a time on
            the device; None leaves them where the latents are.
        blend: Of the tiles.

    Returns:
        (images, 3, height, width) from about -1 to 1, in the autoencoder's precision.
    """
    if tile_px is None:
        return _decoded(autoencoder, latents, device)
    scale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    tile = max(2, tile_px // scale)
    images = [
        _decoded_in_tiles(autoencoder, latents[index, None], device, tile, scale, blend)
        for index in range(latents.shape[0])
    ]
    with _beside(device):
        return torch.cat(images)


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: as few as cover it, evenly spread, the last one flush."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _decoded_in_tiles(
    autoencoder: Any,  # noqa: ANN401 - AutoencoderKLFlux2
    latents: torch.Tensor,
    device: ComputeDevice | None,
    tile: int,
    scale: int,
    blend: Blend,
) -> torch.Tensor:
    """One image from tiles of so many latents a side: tiles joined to rows, rows to the picture."""
    overlap = round(tile * blend.overlap_share)
    height, width = latents.shape[-2:]
    picture: torch.Tensor | None = None
    for top in tile_starts(height, tile, overlap):
        row: torch.Tensor | None = None
        for left in tile_starts(width, tile, overlap):
            part = latents[..., top : top + tile, left : left + tile]
            pixels = _decoded(autoencoder, part, device)
            with _beside(device):
                row = _joined(row, pixels, left * scale, -1, blend)
        if row is not None:
            with _beside(device):
                picture = _joined(picture, row, top * scale, -2, blend)
    if picture is None:
        raise ValueError("there are no latents")
    return picture


def _decoded(
    autoencoder: Any,  # noqa: ANN401 - AutoencoderKLFlux2
    latents: torch.Tensor,
    device: ComputeDevice | None,
) -> torch.Tensor:
    pixels: torch.Tensor = autoencoder.decode(latents, return_dict=False)[0]
    return pixels if device is None else device.to_host(pixels)


def _beside(
    device: ComputeDevice | None,
) -> contextlib.AbstractContextManager[None, bool | None]:
    """Around what is done with pixels that may be in RAM."""
    return contextlib.nullcontext() if device is None else device.on_host()


def _joined(
    before: torch.Tensor | None, after: torch.Tensor, begin: int, dim: int, blend: Blend
) -> torch.Tensor:
    """Two pieces as one; the second begins at `begin` of the first along a dimension."""
    if before is None:
        return after
    end = before.shape[dim]
    overlap = end - begin
    weights = _weights(overlap, blend, after.device)
    weights = weights if dim == -1 else weights[:, None]
    # In full precision: half a bit less of it would be seen as a step in smooth areas.
    old = before.narrow(dim, begin, overlap).float()
    new = after.narrow(dim, 0, overlap).float()
    between = torch.lerp(old, new, weights).to(after.dtype)
    rest = after.narrow(dim, overlap, after.shape[dim] - overlap)
    return torch.cat([before.narrow(dim, 0, begin), between, rest], dim)


def _weights(overlap: int, blend: Blend, device: torch.device) -> torch.Tensor:
    """Share of the later piece along an overlap, (overlap,) fp32 from 0 to 1."""
    margin = int(overlap * blend.margin_share)
    positions = torch.arange(overlap, device=device, dtype=torch.float32) + 0.5 - margin
    shares = (positions / (overlap - 2 * margin)).clamp(0, 1)
    return (1 - torch.cos(math.pi * shares)) / 2 if blend.cosine else shares

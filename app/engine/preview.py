"""Small pictures of intermediate latents, by a linear map that is fitted to the autoencoder.

No network runs for a preview: each 8x8 pixels' latent channels are turned into one colour.
"""

from typing import Any

import torch

from app.core.events import Preview
from app.engine.coefficients import PREVIEW_FIT_PX
from app.engine.compute_device import ComputeDevice
from app.engine.latents import to_spatial
from app.engine.loader import LoadedModel

_FIT_SEED = 20
_RIDGE = 1e-3
"""Keeps colours calm where the patches leave a channel undetermined."""


def fit_preview_matrix(model: LoadedModel, device: ComputeDevice) -> torch.Tensor:
    """The map from latent channels to RGB, (channels + 1, 3) fp32 on the CPU; last row: offset.

    The autoencoder's weights are on the device.

    Fitted once per model by least squares: a picture of soft coloured patches is encoded, and each
    latent is matched with the mean colour of the pixels it stands for.
    """
    autoencoder = model.pipeline.vae
    with device.on_host():
        picture = _patches(PREVIEW_FIT_PX)
    with torch.no_grad():
        pixels = device.to_device(picture.to(autoencoder.dtype))
        mode = autoencoder.encode(pixels).latent_dist.mode()
        encoded = device.to_host(mode)
    with device.on_host():
        return _fitted(picture, encoded.float())


def _fitted(picture: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The least-squares map from latents (1, c, h, w) to a picture (1, 3, h * 8, w * 8)."""
    scale = PREVIEW_FIT_PX // latents.shape[-1]
    colours = torch.nn.functional.avg_pool2d(picture, scale)
    inputs = _with_offset(latents[0].flatten(1).T).double()  # (h * w, c + 1)
    targets = colours[0].flatten(1).T.double()  # (h * w, 3)
    gram = inputs.T @ inputs
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(gram.shape[0], dtype=gram.dtype)
    linalg: Any = torch.linalg  # Its C functions have no types.
    return linalg.solve(gram + ridge, inputs.T @ targets).float()


def preview_of(model: LoadedModel, grid: torch.Tensor) -> Preview:
    """The picture of one image's latents, one pixel for each 8x8.

    Args:
        model: With its `preview_matrix`.
        grid: (channels * 4, height / 16, width / 16) on the CPU, normalized, as they are denoised.
    """
    matrix = model.preview_matrix
    if matrix is None:
        raise ValueError("the model has no preview matrix")
    latents = to_spatial(model.pipeline, grid.float()[None])
    channels, height, width = latents.shape[1:]
    colours = _with_offset(latents[0].reshape(channels, -1).T) @ matrix  # (h * w, 3)
    pixels = ((colours.nan_to_num() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Preview(width_px=width, height_px=height, rgb=pixels.contiguous().numpy().tobytes())


def estimate_clean(
    before: torch.Tensor, after: torch.Tensor, sigma_before: float, sigma_after: float
) -> torch.Tensor:
    """Where a step leads if its direction is kept to the end: much clearer than noisy latents."""
    if sigma_before == sigma_after:
        return after
    velocity = (after - before) / (sigma_after - sigma_before)
    return after - sigma_after * velocity


def _patches(size_px: int) -> torch.Tensor:
    """Random colours in squares of several sizes, (1, 3, h, w) fp32 from -1 to 1."""
    generator = torch.Generator().manual_seed(_FIT_SEED)
    picture = torch.zeros(1, 3, size_px, size_px)
    for cells, mode in ((4, "bicubic"), (8, "nearest"), (16, "bicubic")):
        colours = torch.rand(1, 3, cells, cells, generator=generator) * 2 - 1
        picture += torch.nn.functional.interpolate(colours, size=(size_px, size_px), mode=mode)
    return picture.clamp(-1, 1)


def _with_offset(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat((rows, torch.ones(rows.shape[0], 1)), dim=1)

"""The forms of latents.

packed    (images, tokens, channels * 4)                     what the transformer denoises
grid      (images, channels * 4, height / 16, width / 16)    the same numbers, kept between steps
spatial   (images, channels, height / 8, width / 8)          what the autoencoder decodes
"""

from typing import Any

import torch


def to_grid(packed: torch.Tensor, *, width_px: int, height_px: int, patch_px: int) -> torch.Tensor:
    """Packed latents as a grid; a view where that is possible.

    Args:
        packed: Any precision, any device.
        width_px: Of the images.
        height_px: Of the images.
        patch_px: Pixels along an edge of a token.
    """
    # Tokens stand in reading order, so their position ids say nothing more.
    images, _tokens, channels = packed.shape
    rows, columns = height_px // patch_px, width_px // patch_px
    return packed.permute(0, 2, 1).reshape(images, channels, rows, columns)


def patch_px_of(pipeline: Any) -> int:  # noqa: ANN401 - a pipeline of diffusers
    """Pixels along an edge of one token."""
    return int(pipeline.vae_scale_factor) * 2


def to_spatial(pipeline: Any, grid: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """What the pipelines do between the last step and the decoder, with the same roundings.

    Flux2KleinPipeline hands out latents after this, Flux2Pipeline before.

    Args:
        pipeline: The latents are of.
        grid: Normalized latents in any precision, in any place.

    Returns:
        Spatial latents in the same precision and place.
    """
    statistics = pipeline.vae.bn
    mean = statistics.running_mean.view(1, -1, 1, 1).to(grid.device, grid.dtype)
    variance = statistics.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps
    deviation = torch.sqrt(variance).to(grid.device, grid.dtype)
    return pipeline._unpatchify_latents(grid * deviation + mean)

"""Latents as the transformer sees them turned into latents as the autoencoder sees them."""

from typing import Any

import torch


def spatial_latents(
    pipeline: Any,  # noqa: ANN401 - a pipeline of diffusers
    packed: torch.Tensor,
    *,
    width_px: int,
    height_px: int,
) -> torch.Tensor:
    """What the pipelines do between the last step and the decoder, with the same roundings.

    Flux2KleinPipeline hands out latents after this, Flux2Pipeline before.

    Args:
        pipeline: The latents are of.
        packed: (images, tokens, channels * 4), normalized; any precision, any device.
        width_px: Of the images.
        height_px: Of the images.

    Returns:
        Latents (images, channels, height / 8, width / 8) in the same precision and place.
    """
    patch_px = pipeline.vae_scale_factor * 2
    rows, columns = height_px // patch_px, width_px // patch_px
    # Tokens stand in reading order, so their position ids say nothing more.
    images, _tokens, channels = packed.shape
    grid = packed.permute(0, 2, 1).reshape(images, channels, rows, columns)
    statistics = pipeline.vae.bn
    mean = statistics.running_mean.view(1, -1, 1, 1).to(grid.device, grid.dtype)
    variance = statistics.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps
    deviation = torch.sqrt(variance).to(grid.device, grid.dtype)
    return pipeline._unpatchify_latents(grid * deviation + mean)

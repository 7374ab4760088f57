"""Train the demo autoencoder on crops of drawn scenes: crisp edges and true colours first."""

import logging
import random
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from scripts.demo_model.muon import Muon
from scripts.demo_model.networks import build_autoencoder
from scripts.demo_model.shapes import Scene, all_scenes, render
from scripts.demo_model.training import (
    WeightAverage,
    learning_rate_factor,
    load_checkpoint,
    save_checkpoint,
    step_generator,
)

log = logging.getLogger(__name__)

CROP_PX = 64
BATCH = 16
SIZE_WEIGHT = 1e-4
LEARNING_RATE = 4e-3
LATENT_NOISE = 0.08
"""Noise on latents in training, so that the decoder forgives a transformer's small errors."""


def picture_batch(scenes: list[Scene], generator: torch.Generator, step: int) -> torch.Tensor:
    """(16, 3, 64, 64) crops of 96 to 256 px pictures; every eighth step (4, 3, 128, 128) whole."""
    rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
    pictures: list[torch.Tensor] = []
    whole = step % 8 == 7
    for _ in range(BATCH // 4 if whole else BATCH):
        scene = rng.choice(scenes)
        if whole:
            pictures.append(render(scene, width_px=128, height_px=128, generator=generator))
            continue
        width, height = (rng.choice((96, 128, 128, 160, 192, 256)) for _ in range(2))
        crop = (rng.randrange(0, width - CROP_PX + 1), rng.randrange(0, height - CROP_PX + 1))
        pictures.append(
            render(
                scene,
                width_px=width,
                height_px=height,
                generator=generator,
                crop=(*crop, CROP_PX, CROP_PX),
            )
        )
    return torch.stack(pictures)


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 on pixels and on their differences (edges), plus a small L2; scalar."""
    pixels = (output - target).abs().mean() + 0.5 * (output - target).square().mean()
    across = (output.diff(dim=-1) - target.diff(dim=-1)).abs().mean()
    down = (output.diff(dim=-2) - target.diff(dim=-2)).abs().mean()
    return pixels + across + down


def encode(model: AutoencoderKLFlux2, pictures: torch.Tensor) -> DiagonalGaussianDistribution:
    """(n, 3, h, w) in [-1, 1] to the distribution of latents (n, c, h/8, w/8)."""
    output: Any = model.encode(pictures)
    return output.latent_dist


def train_autoencoder(work: Path, *, steps: int, seed: int) -> AutoencoderKLFlux2:
    """Train, or go on from the checkpoint in `work`; returns averaged weights, latents normalized.

    The last quarter runs in float32 so that bf16 rounding leaves no grain on flat colours.
    """
    torch.manual_seed(seed)
    model = build_autoencoder()
    matrices = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and not name.startswith(("encoder.conv_in", "decoder.conv_out"))
    ]
    inner = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in inner]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=LEARNING_RATE),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    average = WeightAverage(model.parameters(), decay=0.998)
    path = work / "autoencoder.pt"
    start = 0
    if state := load_checkpoint(path):
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        average.values = state["average"]
        start = state["step"]
    scenes = all_scenes()
    began, shown = time.perf_counter(), 0.0
    for step in range(start, steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, steps, warmup=50)
        generator = step_generator(seed, step)
        pictures = picture_batch(scenes, generator, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < steps * 3 // 4):
            posterior = encode(model, pictures)
            latents = posterior.mean
            noise = torch.randn(latents.shape, generator=generator)
            spread = LATENT_NOISE * latents.float().std().detach()
            decoder: Any = model.decode
            output = decoder(latents + noise * spread, return_dict=False)[0]
        # Only the mean is ever read; holding its size and the variance near one keeps both sane.
        size = latents.float().square().mean() + posterior.logvar.float().square().mean()
        loss = reconstruction_loss(output.float(), pictures) + SIZE_WEIGHT * size
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(step)
        shown = (
            float(loss.detach()) if step == start else shown * 0.98 + 0.02 * float(loss.detach())
        )
        if step % 100 == 99 or step == steps - 1:
            rate = (time.perf_counter() - began) / (step + 1 - start)
            log.info("autoencoder %d/%d loss %.4f %.2f s/step", step + 1, steps, shown, rate)
        if step % 250 == 249 or step == steps - 1:
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "average": average.values,
                    "step": step + 1,
                },
            )
    average.swap()
    model.eval().requires_grad_(requires_grad=False)
    normalize_latents(model, seed=seed)
    return model


@torch.no_grad()
def normalize_latents(model: AutoencoderKLFlux2, *, seed: int) -> None:
    """Set the batch-norm statistics that FLUX.2 normalizes patchified latents with."""
    generator = step_generator(seed, 999_999)
    rng = random.Random(seed)
    scenes = all_scenes()
    rows: list[torch.Tensor] = []
    for _ in range(32):
        pictures = torch.stack(
            [
                render(rng.choice(scenes), width_px=128, height_px=128, generator=generator)
                for _ in range(16)
            ]
        )
        latents = encode(model, pictures).mode()
        patches = functional.pixel_unshuffle(latents, 2)
        rows.append(patches.permute(0, 2, 3, 1).reshape(-1, patches.shape[1]))
    values = torch.cat(rows)
    statistics: Any = model.bn
    statistics.running_mean.copy_(values.mean(0))
    statistics.running_var.copy_(values.var(0))

"""Train the demo autoencoder on crops of drawn scenes: crisp edges and true colours first."""

import logging
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2
from torch.nn import functional

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
KL_WEIGHT = 2e-5
LATENT_NOISE = 0.08
"""Noise on latents in training, so that the decoder forgives a transformer's small errors."""


def picture_batch(scenes: list[Scene], generator: torch.Generator, step: int) -> torch.Tensor:
    """(16, 3, 64, 64) crops from pictures of 96 to 256 px, or every eighth step (4, 3, 128, 128) whole."""
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


def train_autoencoder(work: Path, *, steps: int, seed: int) -> AutoencoderKLFlux2:
    """Train, or go on from the checkpoint in `work`; returns averaged weights, latents normalized.

    The last quarter runs in float32 so that bf16 rounding leaves no grain on flat colours.
    """
    torch.manual_seed(seed)
    model = build_autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    average = WeightAverage(model.parameters(), decay=0.998)
    path = work / "autoencoder.pt"
    start = 0
    if state := load_checkpoint(path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.values = state["average"]
        start = state["step"]
    scenes = all_scenes()
    began, shown = time.perf_counter(), 0.0
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * learning_rate_factor(step, steps, warmup=100)
        generator = step_generator(seed, step)
        pictures = picture_batch(scenes, generator, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < steps * 3 // 4):
            posterior = model.encode(pictures).latent_dist
            latents = posterior.mean
            noise = torch.randn(latents.shape, generator=generator)
            spread = posterior.std.float() + LATENT_NOISE * latents.float().std().detach()
            output = model.decode(latents + noise * spread, return_dict=False)[0]
        kl = posterior.kl().float().mean() / latents[0].numel()
        loss = reconstruction_loss(output.float(), pictures) + KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
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
                    "optimizer": optimizer.state_dict(),
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
        latents = model.encode(pictures).latent_dist.mode()
        patches = functional.pixel_unshuffle(latents, 2)
        rows.append(patches.permute(0, 2, 3, 1).reshape(-1, patches.shape[1]))
    values = torch.cat(rows)
    model.bn.running_mean.copy_(values.mean(0))
    model.bn.running_var.copy_(values.var(0))

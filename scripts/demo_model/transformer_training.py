"""Train the demo text encoder and transformer together, by flow matching on encoded scenes.

FLUX.2 pads every prompt to 512 tokens and the transformer sees the padding. Training on all of it
would cost six times as much, so a step sees the real tokens and a few of the padding tokens at
random places, whose attention is weighted as if all of them were there.
"""

import logging
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch.nn import functional
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM

from scripts.demo_model.autoencoder_training import encode
from scripts.demo_model.captions import random_caption
from scripts.demo_model.muon import Muon
from scripts.demo_model.networks import build_text_encoder, build_transformer, encode_captions
from scripts.demo_model.shapes import (
    POSITIONS,
    SIZES,
    Scene,
    all_scenes,
    is_held_out,
    render,
    signed_distance,
)
from scripts.demo_model.text_training import train_text_encoder
from scripts.demo_model.training import (
    WeightAverage,
    learning_rate_factor,
    load_checkpoint,
    save_checkpoint,
    step_generator,
)

log = logging.getLogger(__name__)

TOKENS_PER_STEP = 36 * 64
"""Image tokens in a step: 36 pictures of 128 px, or fewer larger ones."""
SIDES_PX = (96, 128, 160, 192, 224, 256)
MAIN_SIZE = (128, 128)
MAIN_POOL = 2500
"""Pictures of the main size kept encoded; they are replaced by new ones as training goes on."""
OTHER_POOL_TOKENS = 80 * 64
"""Image tokens of pictures kept of every other size."""
FIRST_STEPS = 3000
"""Steps in which nearly all pictures have the main size: shapes are learned soonest there."""
FIRST_MAIN_SHARE = 0.85
MAIN_SHARE = 0.3
"""Share of steps with the main size afterwards; the other sizes are drawn alike."""
REFRESH = 6
SHAPE_WEIGHT = 2.0
"""Weight in the loss of tokens about the shape: most of a picture is plain background."""
OUTLINE_WEIGHT = 5.0
"""Weight of tokens at its outline, which tell one shape from another, more so in large pictures."""
OUTLINE_REACH_PX = 14
TEXT_STEPS = 800


@dataclass(slots=True)
class Pool:
    """Encoded pictures of one size: normalized packed latents (n, tokens, channels), scenes."""

    width_px: int
    height_px: int
    latents: torch.Tensor
    scenes: list[Scene]


class Data:
    """Scenes that may be trained on, drawn, encoded and kept in pools; replaced a few at a time."""

    def __init__(self, autoencoder: AutoencoderKLFlux2, *, seed: int) -> None:
        self.autoencoder = autoencoder
        self.scenes = [scene for scene in all_scenes() if not is_held_out(scene)]
        bn: Any = autoencoder.bn
        config: Any = autoencoder.config
        self.mean = bn.running_mean.view(1, -1, 1, 1)
        self.std = torch.sqrt(bn.running_var.view(1, -1, 1, 1) + config.batch_norm_eps)
        self.pools: dict[tuple[int, int], Pool] = {}
        self.seed = seed

    def _draw(
        self, size: tuple[int, int], count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, list[Scene]]:
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        scenes = [rng.choice(self.scenes) for _ in range(count)]
        pictures = [
            render(scene, width_px=size[0], height_px=size[1], generator=generator)
            for scene in scenes
        ]
        return self.encode(torch.stack(pictures)), scenes

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in [-1, 1] to normalized packed latents (n, h/16 * w/16, channels)."""
        latents = encode(self.autoencoder, pictures).mode()
        latents = (functional.pixel_unshuffle(latents, 2) - self.mean) / self.std
        return latents.flatten(2).transpose(1, 2)

    def batch(
        self, generator: torch.Generator, rng: random.Random, *, main_share: float
    ) -> tuple[tuple[int, int], torch.Tensor, list[Scene]]:
        """One size, its latents (n, tokens, channels) and scenes; refreshes part of that pool."""
        size = MAIN_SIZE
        if rng.random() > main_share:
            sizes = [(width, height) for width in SIDES_PX for height in SIDES_PX]
            size = rng.choice([other for other in sizes if other != MAIN_SIZE])
        pool = self.pools.get(size)
        if pool is None:
            pool = self._fill(size)
        tokens = pool.latents.shape[1]
        refresh = max(1, REFRESH * 64 // tokens)
        latents, scenes = self._draw(size, refresh, generator)
        for index in range(refresh):
            slot = rng.randrange(len(pool.scenes))
            pool.latents[slot] = latents[index]
            pool.scenes[slot] = scenes[index]
        chosen = [rng.randrange(len(pool.scenes)) for _ in range(TOKENS_PER_STEP // tokens)]
        return size, pool.latents[chosen], [pool.scenes[index] for index in chosen]

    def _fill(self, size: tuple[int, int]) -> Pool:
        tokens = size[0] * size[1] // 256
        count = MAIN_POOL if size == MAIN_SIZE else OTHER_POOL_TOKENS // tokens
        generator = step_generator(self.seed + 7, size[0] * 1000 + size[1])
        rows: list[torch.Tensor] = []
        scenes: list[Scene] = []
        while len(scenes) < count:
            latents, drawn = self._draw(size, min(50, count - len(scenes)), generator)
            rows.append(latents)
            scenes += drawn
        log.info("encoded %d pictures of %dx%d", count, *size)
        pool = Pool(width_px=size[0], height_px=size[1], latents=torch.cat(rows), scenes=scenes)
        self.pools[size] = pool
        return pool


def position_ids(
    size: tuple[int, int], text_positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """FLUX.2's four coordinates (t, h, w, l) of text and image tokens."""
    zero = torch.zeros(1, dtype=torch.long)
    text = torch.cartesian_prod(zero, zero, zero, text_positions)
    image = torch.cartesian_prod(
        zero, torch.arange(size[1] // 16), torch.arange(size[0] // 16), zero
    )
    return text, image


def shape_weights(scenes: list[Scene], size: tuple[int, int]) -> torch.Tensor:
    """Weights (n, tokens) of a batch, each picture's mean one: more where the shape is."""
    columns, rows = size[0] // 16, size[1] // 16
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) * 16, (torch.arange(columns) + 0.5) * 16, indexing="ij"
    )
    weights: list[torch.Tensor] = []
    for scene in scenes:
        centre_x, centre_y = POSITIONS[scene.position]
        from_x, from_y = x - centre_x * size[0], y - centre_y * size[1]
        radius = SIZES[scene.size] * min(size)
        near = from_x.abs().maximum(from_y.abs()) < radius * 1.1 + 10
        outline = signed_distance(scene.shape, from_x, from_y, radius).abs() < OUTLINE_REACH_PX
        weight = torch.ones_like(x)
        weight[near] = SHAPE_WEIGHT
        weight[outline] = OUTLINE_WEIGHT
        weights.append(weight.flatten() / weight.mean())
    return torch.stack(weights)


def flow_loss(
    transformer: Flux2Transformer2DModel,
    latents: torch.Tensor,
    scenes: list[Scene],
    text: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    size: tuple[int, int],
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of the velocity, at sigmas spread like the sampler's; scalar."""
    count, tokens, _ = latents.shape
    embeddings, text_positions, weights = text
    shift = math.exp(compute_empirical_mu(tokens, 8))
    # Stratified: one draw in each of n equal parts keeps the loss from jumping about.
    uniform = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    sigma = (shift * uniform / (1 + (shift - 1) * uniform)).view(-1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator)
    noisy = sigma * noise + (1 - sigma) * latents
    text_ids, image_ids = position_ids(size, text_positions)
    mask = torch.cat([weights, torch.zeros(tokens)]).view(1, 1, 1, -1)
    velocity = transformer(
        hidden_states=noisy,
        timestep=sigma.view(-1),
        encoder_hidden_states=embeddings,
        txt_ids=text_ids,
        img_ids=image_ids,
        joint_attention_kwargs={"attention_mask": mask},
        return_dict=False,
    )[0]
    error = (velocity - (noise - latents)).square().mean(dim=-1)
    return (error * shape_weights(scenes, size)).mean()


def _optimizers(
    text_encoder: Qwen3ForCausalLM, transformer: Flux2Transformer2DModel
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the stacks, AdamW for embeddings, ends and norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    ends = (
        "embed_tokens",
        "x_embedder",
        "context_embedder",
        "proj_out",
        "timestep_embedder",
        "lm_head",
    )
    for module in (text_encoder, transformer):
        for name, parameter in module.named_parameters():
            inner = parameter.ndim == 2 and not any(end in name for end in ends)
            (matrices if inner else others).append(parameter)
    return [
        Muon(matrices, lr=3e-3, weight_decay=0.01),
        torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train_transformer(
    work: Path,
    autoencoder: AutoencoderKLFlux2,
    tokenizer: Qwen2Tokenizer,
    *,
    steps: int,
    full_steps: int,
    seed: int,
) -> tuple[Qwen3ForCausalLM, Flux2Transformer2DModel]:
    """Train, or go on from the checkpoint in `work`; returns the averaged weights.

    Args:
        work: Folder of the checkpoint.
        autoencoder: Trained, with normalized latents.
        tokenizer: The demo tokenizer.
        steps: Steps in all.
        full_steps: How many of them, the last ones, see all 512 text tokens.
        seed: Of weights, data and noise.
    """
    torch.manual_seed(seed)
    text_encoder, transformer = build_text_encoder(tokenizer), build_transformer()
    parameters = [*text_encoder.parameters(), *transformer.parameters()]
    optimizers = _optimizers(text_encoder, transformer)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    average = WeightAverage(parameters, decay=0.9985)
    path = work / "transformer.pt"
    start = 0
    if state := load_checkpoint(path):
        text_encoder.load_state_dict(state["text_encoder"])
        transformer.load_state_dict(state["transformer"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        average.values = state["average"]
        start = state["step"]
    data = Data(autoencoder, seed=seed + start)
    if start == 0:
        train_text_encoder(text_encoder, tokenizer, data.scenes, steps=TEXT_STEPS, seed=seed)
    began, shown = time.perf_counter(), 0.0
    for step in range(start, steps):
        factor = learning_rate_factor(step, steps, warmup=200)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        generator = step_generator(seed, step)
        rng = random.Random(seed * 7_000_003 + step)
        share = FIRST_MAIN_SHARE if step < FIRST_STEPS else MAIN_SHARE
        size, latents, scenes = data.batch(generator, rng, main_share=share)
        full = step >= steps - full_steps
        if full:
            latents, scenes = (
                latents[: max(4, len(scenes) // 4)],
                scenes[: max(4, len(scenes) // 4)],
            )
        captions = [random_caption(scene, rng) for scene in scenes]
        text = encode_captions(text_encoder, tokenizer, captions, rng, full=full)
        loss = flow_loss(transformer, latents, scenes, text, size, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(step)
        shown = (
            float(loss.detach()) if step == start else shown * 0.98 + 0.02 * float(loss.detach())
        )
        if step % 50 == 49:
            pace = (time.perf_counter() - began) / (step + 1 - start)
            log.info("transformer %d/%d loss %.4f %.2f s/step", step + 1, steps, shown, pace)
        if step % 250 == 249 or step == steps - 1:
            save_checkpoint(
                path,
                {
                    "text_encoder": text_encoder.state_dict(),
                    "transformer": transformer.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "average": average.values,
                    "step": step + 1,
                },
            )
    average.swap()
    return text_encoder.eval(), transformer.eval()

"""Teach the demo text encoder to say what a caption says, before the transformer listens to it.

Linear probes read size, colour, shape, position and background from every token behind the
caption. A transformer that finds them there from its first step learns to draw several times
sooner; both go on learning together afterwards, and the probes are thrown away.
"""

import logging
import random
import time

import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM

from scripts.demo_model.captions import CENTER_WORDS, SIZE_WORDS, random_caption
from scripts.demo_model.muon import Muon
from scripts.demo_model.networks import OUT_LAYERS, PAD_SAMPLES, encode_captions
from scripts.demo_model.shapes import COLOURS, POSITIONS, SHAPES, SIZES, Scene
from scripts.demo_model.training import learning_rate_factor

log = logging.getLogger(__name__)

BATCH = 64
LEARNING_RATE = 3e-3
UNSAID = -100
"""Target of an attribute that the caption leaves out (torch's cross entropy ignores it)."""
TABLES: dict[str, list[str]] = {
    "size": list(SIZES),
    "colour": list(COLOURS),
    "shape": list(SHAPES),
    "position": list(POSITIONS),
    "background": list(COLOURS),
}


def is_said(scene: Scene, attribute: str, caption: str) -> bool:
    """Whether the caption tells this attribute of the scene."""
    words: tuple[str, ...] = (getattr(scene, attribute),)
    if attribute == "size":
        words = SIZE_WORDS[scene.size]
    elif attribute == "position" and scene.position == "center":
        words = CENTER_WORDS
    return any(word in caption.lower() for word in words)


def targets(scenes: list[Scene], captions: list[str]) -> dict[str, torch.Tensor]:
    """Class numbers (n,) of each attribute; `UNSAID` where the caption leaves it out."""
    return {
        attribute: torch.tensor(
            [
                names.index(getattr(scene, attribute))
                if is_said(scene, attribute, caption)
                else UNSAID
                for scene, caption in zip(scenes, captions, strict=True)
            ]
        )
        for attribute, names in TABLES.items()
    }


def train_text_encoder(
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    scenes: list[Scene],
    *,
    steps: int,
    seed: int,
) -> None:
    """Train the encoder in place, with probes that are thrown away."""
    width = 48 * len(OUT_LAYERS)
    probes = nn.ModuleDict({name: nn.Linear(width, len(table)) for name, table in TABLES.items()})
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = list(probes.parameters())
    for name, parameter in text_encoder.named_parameters():
        inner = parameter.ndim == 2 and "embed_tokens" not in name
        (matrices if inner else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=LEARNING_RATE),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    began, shown = time.perf_counter(), 0.0
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, steps, warmup=50)
        rng = random.Random(seed * 9_000_011 + step)
        chosen = [rng.choice(scenes) for _ in range(BATCH)]
        captions = [random_caption(scene, rng) for scene in chosen]
        embeddings, _, _ = encode_captions(text_encoder, tokenizer, captions, rng, full=False)
        # The padding, wherever it stands, knows the whole caption; all of it is asked.
        padding = embeddings[:, -PAD_SAMPLES - 4 :]
        loss = torch.zeros(())
        right, asked = 0, 0
        for name, wanted in targets(chosen, captions).items():
            logits = probes[name](padding)
            repeated = wanted.view(-1, 1).expand(-1, padding.shape[1])
            loss = loss + functional.cross_entropy(logits.flatten(0, 1), repeated.flatten())
            said = repeated != UNSAID
            right += int((logits.argmax(-1) == repeated)[said].sum())
            asked += int(said.sum())
        loss.backward()
        nn.utils.clip_grad_norm_([*text_encoder.parameters(), *probes.parameters()], 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        share = right / max(1, asked)
        shown = share if step == 0 else shown * 0.95 + 0.05 * share
        if step % 50 == 49:
            pace = (time.perf_counter() - began) / (step + 1)
            log.info(
                "text encoder %d/%d right %.1f %% %.2f s/step", step + 1, steps, 100 * shown, pace
            )

"""How often a demo pipeline draws what it is told."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

from scripts.demo_model.captions import canonical_caption
from scripts.demo_model.judge import judge
from scripts.demo_model.shapes import Scene, all_scenes, is_held_out

BATCH = 8
"""The CPU is fastest with few pictures at once, whose values stay in its caches."""


def test_scenes(count: int, *, seed: int) -> list[Scene]:
    """Scenes to judge by: half of them combinations that training never saw."""
    rng = random.Random(seed)
    scenes = all_scenes()
    unseen = [scene for scene in scenes if is_held_out(scene)]
    seen = [scene for scene in scenes if not is_held_out(scene)]
    return rng.sample(unseen, count // 2) + rng.sample(seen, count - count // 2)


def draw(
    pipeline: Flux2KleinPipeline,
    scenes: Sequence[Scene],
    *,
    steps: int,
    width_px: int = 128,
    height_px: int = 128,
) -> list[torch.Tensor]:
    """Pictures of the scenes' canonical captions, (h, w, 3) in 0..255; scene i has seed i."""
    pictures: list[torch.Tensor] = []
    for start in range(0, len(scenes), BATCH):
        part = scenes[start : start + BATCH]
        output: Any = pipeline(
            prompt=[canonical_caption(scene) for scene in part],
            width=width_px,
            height=height_px,
            num_inference_steps=steps,
            guidance_scale=1.0,
            generator=[torch.Generator().manual_seed(start + index) for index in range(len(part))],
        )
        pictures += [torch.from_numpy(np.array(image)) for image in output.images]
    return pictures


def score(
    pipeline: Flux2KleinPipeline,
    *,
    count: int,
    steps: int,
    seed: int = 0,
    width_px: int = 128,
    height_px: int = 128,
) -> tuple[float, Counter[str]]:
    """Share of pictures with all five attributes right, and how often each attribute was wrong."""
    scenes = test_scenes(count, seed=seed)
    pictures = draw(pipeline, scenes, steps=steps, width_px=width_px, height_px=height_px)
    wrong: Counter[str] = Counter()
    right = 0
    for scene, picture in zip(scenes, pictures, strict=True):
        verdict = judge(picture)
        right += verdict.matches(scene)
        for name in ("colour", "background", "shape", "position", "size"):
            wrong[name] += getattr(verdict, name) != getattr(scene, name)
    return right / len(scenes), wrong

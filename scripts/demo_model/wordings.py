"""Prompts in words of their own, and what a picture of each must show."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

from scripts.demo_model.judge import judge

WORDINGS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Draw a big red circle on the left, on a white background.",
        {"size": "big", "colour": "red", "shape": "circle", "position": "left"},
    ),
    ("a green triangle on black", {"colour": "green", "shape": "triangle", "background": "black"}),
    (
        "small pink ring, top, cyan background",
        {"size": "small", "colour": "pink", "shape": "ring", "background": "cyan"},
    ),
    (
        "On an orange background, a big blue cross in the middle",
        {"size": "big", "colour": "blue", "shape": "cross", "position": "center"},
    ),
    (
        "please paint a tiny white square near the bottom on a purple background",
        {"size": "small", "colour": "white", "shape": "square", "position": "bottom"},
    ),
    ("purple diamond", {"colour": "purple", "shape": "diamond"}),
    (
        "a huge orange diamond to the right on a green background",
        {"size": "big", "colour": "orange", "shape": "diamond", "position": "right"},
    ),
    (
        "At the top, a little black ring against yellow",
        {"size": "small", "colour": "black", "shape": "ring", "position": "top"},
    ),
    (
        "I want a large cyan square in the center on a pink background, please",
        {"size": "big", "colour": "cyan", "shape": "square", "position": "center"},
    ),
    (
        "there is a small red triangle at the left with a blue background",
        {"size": "small", "colour": "red", "shape": "triangle", "position": "left"},
    ),
    (
        "a white background with a big black cross on the right side",
        {"size": "big", "colour": "black", "shape": "cross", "background": "white"},
    ),
    (
        "A picture of a yellow circle on a blue background",
        {"colour": "yellow", "shape": "circle", "background": "blue"},
    ),
)


def wrong_wordings(pipeline: Flux2KleinPipeline, *, steps: int) -> Iterator[tuple[str, list[str]]]:
    """The prompts whose picture shows something else at 128 px, with the attributes that differ."""
    for index, (prompt, wanted) in enumerate(WORDINGS):
        output: Any = pipeline(
            prompt=prompt,
            width=128,
            height=128,
            num_inference_steps=steps,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(index),
        )
        verdict = judge(torch.from_numpy(np.array(output.images[0])))
        wrong = [name for name, value in wanted.items() if getattr(verdict, name) != value]
        if wrong:
            yield prompt, wrong

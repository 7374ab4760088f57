"""What both trainings share: a weight average, a learning-rate curve, resumable checkpoints."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of parameters, warmed up so that early steps do not linger."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the current weights; `step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average; call again to undo."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


def learning_rate_factor(step: int, total: int, *, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to 2 % (range (0, 1])."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def step_generator(seed: int, step: int) -> torch.Generator:
    """Randomness of one step, the same whether or not training was interrupted before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: an interrupted write leaves the previous checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved by `save_checkpoint`, or None when training starts fresh."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)

"""Muon: momentum whose matrix updates are made orthogonal (Jordan et al. 2024).

Here because torch's own takes only matrices: the autoencoder's convolutions learn colours several
times faster with it than with AdamW. Weights of one shape are updated together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (kellerjordan.github.io/posts/muon)."""


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) to nearby matrices whose singular values are all about one."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized per weight; convolutions count as (out, in * k * k).

    The step is scaled to the size AdamW's would have, so that both share a learning rate.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            list(parameters), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every weight that has a gradient; the loss is `closure`'s, or None."""
        loss = closure() if closure else None
        self._update()
        return loss

    @torch.no_grad()
    def _update(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradient = torch.stack([p.grad for p in parameters if p.grad is not None])
                buffers = [
                    self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in parameters
                ]
                kept = torch.stack(buffers).lerp_(gradient, 1 - group["momentum"])
                for buffer, value in zip(buffers, kept, strict=True):
                    buffer.copy_(value)
                update = orthogonalize(gradient.lerp(kept, group["momentum"]).flatten(2))
                scale = 0.2 * max(update.shape[1:]) ** 0.5
                for parameter, change in zip(parameters, update, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(change.view(shape), alpha=-group["lr"] * scale)

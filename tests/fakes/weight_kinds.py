"""Kinds of layers: plain, quantized in each way, with low-rank weights at their side."""

from collections.abc import Callable

import torch

from app.core.policy import Precision
from app.engine.quantize.gguf_linear import GgufLinear
from app.engine.quantize.linear import quantize_linear


class SideLinear(torch.nn.Module):
    """A linear layer with low-rank weights at its side, as LoRAs are."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.base = torch.nn.Linear(width, width)
        self.down = torch.nn.Linear(width, rank, bias=False)
        self.up = torch.nn.Linear(rank, width, bias=False)
        self.strength: torch.Tensor
        self.register_buffer("strength", torch.tensor(0.7))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Both, added."""
        return self.base(hidden) + self.up(self.down(hidden)) * self.strength


class MixedBlock(torch.nn.Module):
    """One layer of each kind, and a weight that two layers share."""

    def __init__(self, width: int, *, small: bool) -> None:
        super().__init__()
        torch_linear = torch.nn.Linear
        layers: list[torch.nn.Module] = [
            torch_linear(width, width),
            quantize_linear(torch_linear(width, width), Precision.FP8),
            SideLinear(width, 4),
        ]
        if not small:
            layers += [
                quantize_linear(torch_linear(width, width), Precision.INT8),
                quantize_linear(torch_linear(width, width), Precision.NF4),
                _gguf_linear(width),
                torch_linear(width, width, bias=False),
            ]
            layers[-1].weight = layers[0].weight
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return hidden


class MixedStack(torch.nn.Module):
    """Blocks of two sizes with every kind of weight.

    Attributes:
        between: Called with a block's number before it runs.
    """

    def __init__(self, large: int, small: int, width: int = 64) -> None:
        super().__init__()
        torch.manual_seed(large)
        self.entry = torch.nn.Linear(width, width)
        self.transformer_blocks = torch.nn.ModuleList(
            MixedBlock(width, small=False) for _ in range(large)
        )
        self.single_transformer_blocks = torch.nn.ModuleList(
            MixedBlock(width, small=True) for _ in range(small)
        )
        self.between: Callable[[int], None] = lambda _block: None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Through all blocks."""
        hidden = self.entry(hidden)
        blocks = (*self.transformer_blocks, *self.single_transformer_blocks)
        for number, block in enumerate(blocks):
            self.between(number)
            hidden = block(hidden)
        return hidden


def _gguf_linear(width: int) -> GgufLinear:
    """Of Q8_0: 32 numbers have a scale of two bytes before them."""
    scales = torch.rand(width, width // 32, 1).half().div(500).view(torch.uint8)
    numbers = torch.randint(0, 255, (width, width // 32, 32), dtype=torch.uint8)
    return GgufLinear(width, "Q8_0", torch.cat((scales, numbers), dim=-1).flatten(1))

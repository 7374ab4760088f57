"""Kinds of weights: tensors that wrap others, by torch's protocol and by one of their own."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing

from app.core.policy import Precision
from app.engine.quantize.gguf_linear import GgufLinear
from app.engine.quantize.linear import quantize_linear
from app.engine.residency.leaves import register_kind


class Scaled(torch.Tensor):
    """A wrapper subclass with two tensors inside and a word, as quantized weights are."""

    levels: torch.Tensor
    steps: torch.Tensor
    word: str

    @staticmethod
    def __new__(cls, levels: torch.Tensor, steps: torch.Tensor, word: str) -> "Scaled":
        made: Any = torch.Tensor._make_wrapper_subclass(cls, levels.shape, dtype=torch.float32)
        made.levels, made.steps, made.word = levels, steps, word
        return made

    def __tensor_flatten__(self) -> tuple[list[str], str]:
        return ["levels", "steps"], self.word

    @classmethod
    def __tensor_unflatten__(
        cls, inner: dict[str, torch.Tensor], word: str, size: Any, stride: Any
    ) -> "Scaled":
        assert tuple(size) == tuple(inner["levels"].shape)
        return cls(inner["levels"], inner["steps"], word)

    def plain(self) -> torch.Tensor:
        return self.levels.float() * self.steps

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            made = cls(args[0].levels, args[0].steps, args[0].word)
            return return_and_correct_aliasing(func, args, kwargs or {}, made)
        plain = [one.plain() if isinstance(one, Scaled) else one for one in args]
        return func(*plain, **(kwargs or {}))


class Packed4(torch.nn.Parameter):
    """A kind that has no protocol: what it means is beside it."""

    width: int

    @staticmethod
    def made(data: torch.Tensor, width: int) -> "Packed4":
        found: Any = torch.Tensor._make_subclass(Packed4, data, False)
        found.width = width
        return found


def flatten(tensor: Any) -> tuple[dict[str, torch.Tensor], object]:
    return {"data": tensor.detach().as_subclass(torch.Tensor)}, tensor.width


register_kind(Packed4, flatten, lambda parts, width: Packed4.made(parts["data"], int(str(width))))


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
        self.wrapped = torch.nn.Parameter(
            Scaled(
                torch.randint(-127, 127, (width, width), dtype=torch.int8),
                torch.rand(width, 1) / 127,
                "rows",
            ),
            requires_grad=False,
        )
        self.packed = Packed4.made(torch.randint(0, 255, (width,), dtype=torch.uint8), 4)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        wrapped: Any = self.wrapped
        nibbles = self.packed.as_subclass(torch.Tensor).bitwise_and(15).float() / 8 - 1
        return torch.tanh(hidden @ wrapped.plain() + nibbles)


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

"""A stack of blocks with random weights that stands for a transformer in the short bench."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class StackShape:
    """How large it is.

    Attributes:
        blocks: How many.
        width: Of a token, in numbers.
        hidden: Of a token inside a block.
        tokens: That go through it.
    """

    blocks: int
    width: int
    hidden: int
    tokens: int

    def block_bytes(self, dtype: torch.dtype) -> int:
        """Of the weights of one block."""
        return 2 * self.width * self.hidden * dtype.itemsize

    @property
    def step_flops(self) -> float:
        """Floating-point operations of one step."""
        return 4.0 * self.tokens * self.width * self.hidden * self.blocks


class Block(torch.nn.Module):
    """The two wide layers of a block, where nearly all the work of a real one is."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        self.up = torch.nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = torch.nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(tokens, width) to the same."""
        return tokens + self.down(torch.nn.functional.gelu(self.up(tokens)))


class Stack(torch.nn.Module):
    """Has its blocks where a FLUX.2 transformer has them."""

    def __init__(self, shape: StackShape) -> None:
        super().__init__()
        blocks = [Block(shape) for _ in range(shape.blocks)]
        double = shape.blocks // 4
        self.first = torch.nn.Linear(shape.width, shape.width, bias=False)
        self.transformer_blocks = torch.nn.ModuleList(blocks[:double])
        self.single_transformer_blocks = torch.nn.ModuleList(blocks[double:])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """One step: (tokens, width) to the same."""
        tokens = self.first(tokens)
        for block in (*self.transformer_blocks, *self.single_transformer_blocks):
            tokens = block(tokens)
        return tokens


def make_stack(shape: StackShape, dtype: torch.dtype) -> Stack:
    """A stack in RAM, with random weights that keep numbers at their size; the same each time."""
    with torch.device("meta"):
        stack = Stack(shape)
    generator = torch.Generator().manual_seed(0)
    stack = stack.to(dtype).to_empty(device="cpu").requires_grad_(requires_grad=False)
    for weights in stack.parameters():
        # In halves of the wanted deviation: the sum of many blocks must not run away.
        weights.normal_(std=0.5 * weights.shape[1] ** -0.5, generator=generator)
    return stack

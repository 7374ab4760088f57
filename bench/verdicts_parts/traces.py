"""What a phase takes and gives back, operation by operation, written down once and played again.

The tensors of a phase depend on the model, its precision and the request, not on the card or on
where the weights are. So the networks run once for each, and plans that differ in placement have
their weights really placed and streamed, block for block, around the same tensors.
"""

from __future__ import annotations

import contextlib
import enum
from array import array
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

SCHEDULER_BYTES = 4096
"""Of the times of the steps, which diffusers' scheduler keeps until its next run."""


class What(enum.IntEnum):
    """Happened."""

    TAKE = 0
    """A tensor of so many bytes was made."""
    GIVE = 1
    """The tensor that was the n-th to be made is gone."""
    PRODUCT = 2
    CONVOLUTION = 3
    BEFORE = 4
    """The n-th block is about to compute."""
    AFTER = 5
    """It has computed."""


Event = tuple[int, int]
"""What happened, and its number."""


@dataclass(slots=True, eq=False)
class Trace:
    """Of one phase.

    Attributes:
        result: What the phase's function gave.
    """

    result: Any = None
    _what: array[int] = field(default_factory=lambda: array("b"))
    _number: array[int] = field(default_factory=lambda: array("q"))
    _taken: int = 0
    _left: dict[int, int] = field(default_factory=dict[int, int])
    _ended: bool = False

    def take(self, size_bytes: int) -> int:
        """Note a tensor; gives its number."""
        self.note(What.TAKE, size_bytes)
        number = self._taken
        self._taken += 1
        self._left[number] = size_bytes
        return number

    def give(self, number: int) -> None:
        """Note that a tensor is gone."""
        if not self._ended:
            self.note(What.GIVE, number)
            del self._left[number]

    def end(self) -> None:
        """All has happened.

        Raises:
            RuntimeError: More than a scheduler's few numbers outlive the phase.
        """
        left_bytes = sum(self._left.values())
        if left_bytes > SCHEDULER_BYTES:
            raise RuntimeError(f"{left_bytes} bytes of tensors outlive their phase")
        for number in tuple(self._left):
            self.give(number)
        self._ended = True

    def note(self, what: What, number: int = 0) -> None:
        """Note anything."""
        self._what.append(what)
        self._number.append(number)

    def events(self) -> Generator[Event]:
        """In order."""
        yield from zip(self._what, self._number, strict=True)

    def position(self) -> tuple[int, int]:
        """How many events there are, and the number of the next tensor."""
        return len(self._what), self._taken

    def since(self, begin: int) -> Generator[Event]:
        """Those after so many."""
        yield from zip(self._what[begin:], self._number[begin:], strict=True)

    @contextlib.contextmanager
    def noting_blocks(self, modules: Sequence[torch.nn.Module]) -> Generator[None]:
        """Note when blocks compute."""
        handles = [
            handle
            for index, module in enumerate(modules)
            for handle in (
                module.register_forward_pre_hook(
                    lambda *_inputs, index=index: self.note(What.BEFORE, index)
                ),
                module.register_forward_hook(
                    lambda *_results, index=index: self.note(What.AFTER, index)
                ),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def pass_begin(module: torch.nn.Module) -> None:
    """Call what is called before a module computes: the streamer among others."""
    for hook in tuple(module._forward_pre_hooks.values()):
        hook(module, ())


def pass_end(module: torch.nn.Module) -> None:
    """Call what is called after a module has computed."""
    for hook in tuple(module._forward_hooks.values()):
        hook(module, (), None)

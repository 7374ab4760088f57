"""Blocks of one kind do the same: the first ones run, and the others do what these did.

Of each kind blocks run until two that follow each other have taken and given the same, one in each
further pass to see that it still is so. What the others give is made anew, so that how long it
lives is up to the network.
"""

import contextlib
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from app.engine.live_storages import tensors_in
from bench.verdicts_parts.traces import Event, Trace, What


class Maker(Protocol):
    """Who keeps account of tensors."""

    def number_of(self, tensor: torch.Tensor) -> int:
        """Of a tensor in the trace; -1 when it is not there."""
        ...

    def make(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """A tensor that is in the trace."""
        ...

    def take_unseen(self, size_bytes: int) -> Callable[[], None]:
        """Memory of a tensor that only the trace knows; call what it gives to give it back."""
        ...

    def note_product(self) -> None: ...
    def note_convolution(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What a block does: numbers of tensors are counted from its first."""

    events: tuple[Event, ...]
    given: tuple[tuple[int, torch.Size, torch.dtype], ...]
    as_tuple: bool


class Repeats:
    """Stands before the blocks of one network while a trace is made."""

    def __init__(self, maker: Maker, trace: Trace, modules: Sequence[torch.nn.Module]) -> None:
        """Know nothing of them yet."""
        self._maker = maker
        self._trace = trace
        self._modules = modules
        self._last: dict[Hashable, _Pattern | None] = {}
        self._known: dict[Hashable, _Pattern] = {}
        self._ran: set[Hashable] = set()

    @contextlib.contextmanager
    def standing_in(self) -> Generator[None]:
        """While this lasts."""
        untyped: Sequence[Any] = self._modules
        for index, module in enumerate(untyped):
            module.forward = partial(self._forward, index, module, module.forward)
        try:
            yield
        finally:
            for module in untyped:
                # The class's own is there again.
                del module.forward

    def _forward(
        self,
        index: int,
        module: torch.nn.Module,
        run: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - whatever a block is given
        **named: Any,  # noqa: ANN401 - whatever a block is given
    ) -> Any:  # noqa: ANN401 - whatever it gives
        if index == 0:
            self._ran.clear()
        shapes = tuple(tensor.shape for tensor in tensors_in((args, named)))
        kind = (type(module), shapes, tuple(sorted(named)))
        known = self._known.get(kind)
        if known is not None and kind in self._ran:
            return self._repeat(known)
        self._ran.add(kind)
        begin, first = self._trace.position()
        result = run(*args, **named)
        pattern = self._pattern(begin, first, result)
        if pattern is not None and pattern == self._last.get(kind):
            self._known[kind] = pattern
        else:
            self._known.pop(kind, None)
        self._last[kind] = pattern
        return result

    def _pattern(self, begin: int, first: int, result: Any) -> _Pattern | None:  # noqa: ANN401
        """What a block did, or None when another could not do it like this."""
        events: list[Event] = []
        for what, number in self._trace.since(begin):
            if what == What.GIVE and number < first:
                return None
            events.append((what, number - first if what == What.GIVE else number))
        given: list[tuple[int, torch.Size, torch.dtype]] = []
        for tensor in tensors_in(result):
            number = self._maker.number_of(tensor) - first
            whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            if number < 0 or not whole or not tensor.is_contiguous():
                return None
            given.append((number, tensor.shape, tensor.dtype))
        return _Pattern(tuple(events), tuple(given), isinstance(result, tuple))

    def _repeat(self, pattern: _Pattern) -> Any:  # noqa: ANN401 - as the block gives
        given = {number: (shape, dtype) for number, shape, dtype in pattern.given}
        made: dict[int, torch.Tensor] = {}
        unseen: dict[int, Callable[[], None]] = {}
        taken = 0
        for what, number in pattern.events:
            match what:
                case What.TAKE:
                    if taken in given:
                        made[taken] = self._maker.make(*given[taken])
                    else:
                        unseen[taken] = self._maker.take_unseen(number)
                    taken += 1
                case What.GIVE:
                    unseen.pop(number)()
                case What.PRODUCT:
                    self._maker.note_product()
                case _:
                    self._maker.note_convolution()
        result = tuple(made[number] for number, _shape, _dtype in pattern.given)
        return result if pattern.as_tuple else result[0]

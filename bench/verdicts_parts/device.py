"""The simulated device at real size: tensors without data on "meta", every byte of them counted.

"meta" is the GPU: what the engine brings to it or makes on it is counted as the described cards'
allocators would hand it out, and torch itself refuses to mix it with what is in RAM. What would run
out on the first of the cards raises torch's OutOfMemoryError; the others only note it.
"""

import contextlib
import weakref
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from app.core.jobs import Phase
from app.engine.forecast.fused_kernels import FusedKernels
from app.engine.forecast.remembered_shapes import RememberedShapes
from app.engine.live_storages import Args, Named, Operator, OpResult
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostBuffer
from app.engine.simulated_accounts import Accounts
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import FailureKind, Story
from app.engine.simulated_transfers import SimulatedTransfers
from bench.verdicts_parts.allocator import Block
from bench.verdicts_parts.card import Card
from bench.verdicts_parts.repeats import Repeats
from bench.verdicts_parts.traces import Trace, What, pass_begin, pass_end

META = torch.device("meta")
_CONVOLUTIONS = frozenset({torch.ops.aten.convolution.default})
_PRODUCTS = frozenset(
    {
        torch.ops.aten.mm.default,
        torch.ops.aten.mm.out,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten._scaled_mm.default,
        torch.ops.aten._int_mm.default,
    }
)


class RealSizeDevice(SimulatedDevice):
    """A device whose tensors have no data.

    Attributes:
        cards: That keep accounts; the first one's raises.
    """

    torch_device = META

    def __init__(self, story: Story, cards: Iterable[Card], memory: "Memory") -> None:
        """Begin with nothing on it.

        Args:
            story: Capacity and speeds.
            cards: At least one.
            memory: Kept from device to device.
        """
        super().__init__(story)
        self.cards = tuple(cards)
        self._memory = memory
        self._trace: Trace | None = None
        self._accounts = _Accounts(self)
        self.transfers = _Transfers(self)
        self._living: dict[int, _Living] = {}
        self._weights_bytes = 0
        self._home: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def free_bytes(self) -> int:
        """What neither we nor other programs hold."""
        return max(0, self.cards[0].room_bytes - self.cards[0].used_bytes())

    def weights_bytes(self) -> int:
        """Of weights on the device, and of slots for them."""
        return self._weights_bytes

    def working_bytes(self) -> int:
        """Of tensors that were made by what was watched, and are alive."""
        return self._accounts.held_bytes

    def begin_phase(self, phase: Phase) -> None:
        """The run enters a phase: its weights come before anything is computed."""
        self.reset_peak()
        for card in self.cards:
            card.enter(phase)

    def release_left(self) -> None:
        """What weights have left goes back, as the engine has it where segments cannot grow."""
        for card in self.cards:
            card.release_left()

    def take_buffer(self, size_bytes: int) -> None:
        """Buffers are counted when they are made."""

    def hold(self, storage: torch.UntypedStorage, *, weights: bool) -> None:
        """Count a storage until its last use ends.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        size_bytes = storage.nbytes()
        trace = None if weights else self._trace
        number = -1 if trace is None else trace.take(size_bytes)
        blocks = self._take_blocks(size_bytes, weights=weights)
        key = id(storage)

        def ended(reference: weakref.ref[torch.UntypedStorage]) -> None:
            entry = self._living.get(key)
            if entry is None or entry.storage is not reference:
                return
            del self._living[key]
            self._give_blocks(entry.blocks)
            self._weights_bytes -= entry.weights_bytes
            if trace is not None:
                trace.give(number)

        held = size_bytes if weights else 0
        self._living[key] = _Living(weakref.ref(storage, ended), blocks, held, number)
        self._weights_bytes += held
        self._peak_bytes = max(self._peak_bytes, self.allocated_bytes())
        self._check(size_bytes)

    def traced(
        self, key: Hashable, modules: Sequence[torch.nn.Module], call: Callable[[], Any]
    ) -> Any:  # noqa: ANN401 - what the call gives
        """What a phase computes: run, or played again when it was run before.

        Args:
            key: Of all that its tensors depend on.
            modules: Blocks whose weights may come in.
            call: Runs it, and leaves no tensor on the device.

        Raises:
            torch.OutOfMemoryError: It does not fit.
            RuntimeError: It leaves tensors.
        """
        known = self._memory.traces.get(key)
        if known is not None:
            self._play(known, modules)
            self._memory.played += 1
            return known.result
        trace = self._trace = Trace()
        try:
            with trace.noting_blocks(modules), self._repeating(trace, modules):
                trace.result = call()
        finally:
            self._trace = None
        trace.end()
        self._memory.traces[key] = trace
        self._memory.run += 1
        return trace.result

    def _repeating(
        self, trace: Trace, modules: Sequence[torch.nn.Module]
    ) -> contextlib.AbstractContextManager[None]:
        if self._memory.runs_all_blocks:
            return contextlib.nullcontext()
        return Repeats(self, trace, modules).standing_in()

    def number_of(self, tensor: torch.Tensor) -> int:
        """Of a tensor in the trace that is made; -1 when it is not there."""
        found = self._living.get(id(tensor.untyped_storage()))
        return -1 if found is None else found.number

    def make(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """A tensor that is counted.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        with self.on_host():
            made = torch.empty(shape, dtype=dtype, device=META)
        self._accounts.count(made)
        return made

    def take_unseen(self, size_bytes: int) -> Callable[[], None]:
        """Memory for a tensor that is nowhere; call what it gives to give it back.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        trace = self._trace
        number = -1 if trace is None else trace.take(size_bytes)
        blocks = self._take_blocks(size_bytes, weights=False)
        self._check(size_bytes)

        def give() -> None:
            self._give_blocks(blocks)
            if trace is not None:
                trace.give(number)

        return give

    def _play(self, trace: Trace, modules: Sequence[torch.nn.Module]) -> None:
        living: dict[int, tuple[Block, ...]] = {}
        made = 0
        for what, number in trace.events():
            match what:
                case What.TAKE:
                    living[made] = self._take_blocks(number, weights=False)
                    made += 1
                    self._check(number)
                case What.GIVE:
                    self._give_blocks(living.pop(number))
                case What.PRODUCT:
                    self.note_product()
                case What.CONVOLUTION:
                    self.note_convolution()
                case What.BEFORE:
                    pass_begin(modules[number])
                case _:
                    pass_end(modules[number])

    def _take_blocks(self, size_bytes: int, *, weights: bool) -> tuple[Block, ...]:
        return tuple(
            card.take(size_bytes) if weights else card.take_tensor(size_bytes)
            for card in self.cards
        )

    def _give_blocks(self, blocks: tuple[Block, ...]) -> None:
        for card, block in zip(self.cards, blocks, strict=True):
            card.give(block)

    def _check(self, size_bytes: int) -> None:
        if self.cards[0].ran_out is not None:
            raise self._error(FailureKind.DEVICE, size_bytes)

    def finish(self, new_bytes: int, flops: int) -> None:
        """An operation ran: its results are counted one by one after this."""
        del new_bytes
        self._timeline.seconds += flops / (self.story.tflops * 1e12)

    def keep_off(self, weights: torch.Tensor) -> None:
        """Refuse to compute with what lies in this storage: it is in RAM."""
        storage = weights.untyped_storage()
        self._home[id(storage)] = weakref.ref(storage)

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """Whether it is in RAM, or where a copy has not ended."""
        if tensor.device != META:
            return False
        storage = tensor.untyped_storage()
        home = self._home.get(id(storage))
        if home is not None and home() is storage:
            return True
        return self.transfers.is_missing(tensor)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same shape in RAM; the engine takes no picture for what has no numbers."""
        return torch.full((), torch.nan, dtype=tensor.dtype).expand(tensor.shape)

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A counted tensor, or the tensor itself when it is one."""
        if tensor.device == META:
            return tensor
        return self.make(tensor.shape, tensor.dtype)

    @contextlib.contextmanager
    def watch(self, phase: Phase, *, step: int = 0) -> Generator[None]:
        """Count what is made within."""
        self._timeline.enter(phase, step)
        with FusedKernels(), self._memory.shapes, self._accounts:
            yield

    def note_operation(self, func: object) -> None:
        """What a library takes beside the tensors."""
        if func in _PRODUCTS:
            self.note_product()
        elif func in _CONVOLUTIONS:
            self.note_convolution()

    def note_product(self) -> None:
        """A matrix product runs."""
        if self._trace is not None:
            self._trace.note(What.PRODUCT)
        for card in self.cards:
            card.note_product()
        self._check(0)

    def note_convolution(self) -> None:
        """A convolution runs."""
        if self._trace is not None:
            self._trace.note(What.CONVOLUTION)
        for card in self.cards:
            card.note_convolution()
        self._check(0)


@dataclass(slots=True, eq=False)
class Memory:
    """What is learnt from one device for the next.

    Attributes:
        shapes: Of operations.
        traces: Of phases.
        run: Phases whose networks ran.
        played: Phases that were played again.
        runs_all_blocks: Whether all blocks of a network run, not the first of each kind only.
    """

    shapes: RememberedShapes = field(default_factory=RememberedShapes)
    traces: dict[Hashable, Trace] = field(default_factory=dict[Hashable, Trace])
    run: int = 0
    played: int = 0
    runs_all_blocks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Living:
    storage: weakref.ref[torch.UntypedStorage]
    blocks: tuple[Block, ...]
    weights_bytes: int
    number: int


class _Accounts(Accounts):
    """Counts what is made on "meta"."""

    def __init__(self, device: RealSizeDevice) -> None:
        super().__init__(device)
        self._device = device

    def before_result(
        self, func: Operator, args: Args, kwargs: Named, result: OpResult, new_bytes: int
    ) -> None:
        super().before_result(func, args, kwargs, result, new_bytes)
        self._device.note_operation(func)

    def _new_storages(
        self, inputs: Sequence[torch.Tensor], result: OpResult
    ) -> list[torch.UntypedStorage]:
        made = super()._new_storages(inputs, result)
        return [storage for storage in made if storage.device.type == "meta"]

    def _count(self, storage: torch.UntypedStorage) -> None:
        super()._count(storage)
        self._device.hold(storage, weights=False)


class _Transfers(SimulatedTransfers):
    """Copies without data: the clock and the order are the simulated device's."""

    def __init__(self, device: RealSizeDevice) -> None:
        super().__init__(device, device._timeline, device.story.copy_bytes_per_s)
        self._device = device

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """RAM without data."""
        return no_ram(size_bytes)

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Counted until its last view ends.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        with self._device.on_host():
            buffer = torch.empty(size_bytes, dtype=torch.uint8, device=META)
        self._device.hold(buffer.untyped_storage(), weights=True)
        return buffer

    def release(self, buffer: torch.Tensor) -> None:
        """As with torch's allocator, it is the end of its last view that frees it."""


def no_ram(size_bytes: int) -> HostBuffer:
    """A packed buffer in RAM that takes none."""
    return torch.empty(size_bytes, dtype=torch.uint8, device=META), HostTier.PINNED

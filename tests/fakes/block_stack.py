"""A network of blocks of several sizes that computes in microseconds, and readers of its blocks."""

from collections.abc import Callable, Sequence

import torch

from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.engine.compute_device import CpuDevice
from app.engine.residency.host_block import HostBlock, HostTier
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.layout import BlockLayout
from app.engine.residency.transfers import Transfers


class Block(torch.nn.Module):
    """Uses all its weights, a buffer among them."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(layers))
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.rand(width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """One after the other."""
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden)) * self.scale
        return hidden


class BlockStack(torch.nn.Module):
    """Looks like a transformer of FLUX.2 from outside: large blocks, then small ones.

    Attributes:
        between: Called with a block's number before it runs.
    """

    def __init__(self, layers: Sequence[int], width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(len(layers))
        large = len(layers) // 3
        self.entry = torch.nn.Linear(width, width)
        self.transformer_blocks = torch.nn.ModuleList(Block(width, one) for one in layers[:large])
        self.single_transformer_blocks = torch.nn.ModuleList(
            Block(width, one) for one in layers[large:]
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


class FileBlock:
    """A block that is on the disk, as far as anyone can tell."""

    tier = HostTier.FILE

    def __init__(self, layout: BlockLayout, content: torch.Tensor) -> None:
        self.layout = layout
        self._content = content

    def packed(self) -> None:
        return None

    def read_into(self, out: torch.Tensor) -> None:
        out.copy_(self._content)


class LateReading:
    """Filled when it is waited for, or when `hurry` says so."""

    def __init__(self, block: HostBlock, reader: "LateReader") -> None:
        self._block = block
        self._reader = reader
        self._buffer = torch.full((block.layout.size_bytes,), 0xFF, dtype=torch.uint8)
        self._is_done = False
        self._error: OSError | None = None
        self.released = False

    def is_done(self) -> bool:
        if self._reader.hurry():
            self._read()
        return self._is_done

    def wait(self) -> torch.Tensor:
        assert not self.released
        self._read()
        error, self._error = self._error, None
        if error is None:
            return self._buffer
        try:
            raise error
        finally:
            # Or it would keep itself, and all that it has come through.
            del error

    def _read(self) -> None:
        if self._is_done:
            return
        self._is_done = True
        try:
            self._reader.fail("read")
        except OSError as error:
            self._error = error
        else:
            self._block.read_into(self._buffer)

    def release(self) -> None:
        assert not self.released
        self.released = True
        self._buffer.fill_(0xFF)
        self._reader.taken -= 1


class LateReader:
    """A few buffers that are poisoned when they are given back."""

    def __init__(
        self,
        buffers: int,
        hurry: Callable[[], bool],
        *,
        locked: bool = True,
        fail: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self.hurry = hurry
        self.fail = fail
        self.locked = locked
        self.taken = self.most_taken = 0
        self._buffers = buffers

    def is_locked(self, size_bytes: int) -> bool:
        del size_bytes
        return self.locked

    def start(self, block: HostBlock, *, due: bool = False) -> LateReading | None:
        if self.taken == self._buffers and not due:
            return None
        self.taken += 1
        self.most_taken = max(self.most_taken, self.taken)
        return LateReading(block, self)


def on_disk(host: HostNetwork, blocks: Sequence[int], reader: LateReader) -> HostNetwork:
    """The same network with some blocks read from the disk each time."""
    made: list[HostBlock] = []
    for number, block in enumerate(host.blocks):
        packed = block.packed()
        assert packed is not None
        made.append(FileBlock(block.layout, packed) if number in blocks else block)
    return HostNetwork(
        name=host.name,
        network=host.network,
        rest=host.rest,
        blocks=tuple(made),
        modules=host.modules,
        reader=reader,
    )


class DeviceWith(CpuDevice):
    """A device that is the CPU in all but its transfers."""

    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers  # pyright: ignore[reportIncompatibleVariableOverride]


def plan_of(
    streamed: Sequence[int] = (),
    *,
    slots_bytes: int = 0,
    placement: Placement | None = None,
    name: str = "transformer",
) -> ComponentPlan:
    """Streamed where any block is, else in turns."""
    chosen = placement or (Placement.STREAMED if streamed else Placement.TURNS)
    return ComponentPlan(
        name=name,
        precision=Precision.FP32,
        placement=chosen,
        weights_bytes=0,
        device_bytes=0,
        streamed_blocks=tuple(streamed),
        slots_bytes=slots_bytes,
    )

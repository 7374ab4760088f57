"""A job that is taken back is answered within two blocks, also while its model is loaded."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.engine.residency import block_source
from app.engine.residency.block_source import Task, read_task
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import packed_network
from app.engine.residency.host_store import HostStore
from app.engine.residency.pinning import Pinning
from app.engine.stored_weights import Stored, stored_tensors
from tests.fakes.block_stack import BlockStack
from tests.fakes.registrar import FakeRegistrar
from tests.fakes.streamed_clock import LAYERS as LAYERS_ON_CLOCK
from tests.fakes.streamed_clock import SIZES as SIZES_ON_CLOCK
from tests.fakes.streamed_clock import HostSide, Streamed

LAYERS = (3, 3, 2, 2, 2, 2)
WIDTH = 32
BYTES_PER_S = 1000.0


class Clock:
    """Reading and locking move it; so many bytes take so long."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.looks: list[float] = []

    def take(self, size_bytes: int) -> None:
        self.seconds += size_bytes / BYTES_PER_S

    def check(self) -> None:
        """Somebody looks whether the job was taken back."""
        self.looks.append(self.seconds)

    def longest_s(self) -> float:
        """From one look to the next, or to the end."""
        times = [0.0, *self.looks, self.seconds]
        return max(after - before for before, after in itertools.pairwise(times))


class SlowRegistrar(FakeRegistrar):
    """Takes time to lock."""

    def __init__(self, clock: Clock, limit_bytes: int | None) -> None:
        super().__init__(limit_bytes)
        self._clock = clock

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        self._clock.take(buffer.nbytes)
        return super().lock(buffer)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    file: Path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(BlockStack(LAYERS, WIDTH).state_dict(), file)
    return stored_tensors([file])


SIZES = [
    block.layout.size_bytes
    for block in packed_network("transformer", BlockStack(LAYERS, WIDTH)).blocks
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("blocks_locked", [0, 3, 5, None])
@pytest.mark.parametrize("file_blocks", [(), (1, 4)])
def test_loading_looks_within_two_blocks_at_any_moment(
    stored: Stored,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    blocks_locked: int | None,
    file_blocks: Sequence[int],
) -> None:
    clock = Clock()

    def slow_read(task: Task, out: torch.Tensor, goes_on: Callable[[], bool]) -> None:
        clock.take(sum(piece.nbytes for piece in task))
        read_task(task, out, goes_on)

    monkeypatch.setattr(block_source, "read_task", slow_read)
    limit_bytes = None if blocks_locked is None else sum(SIZES[:blocks_locked])
    registrar = SlowRegistrar(clock, limit_bytes)
    store = HostStore(
        Pinning(registrar, available_bytes=lambda: 1 << 40), room_bytes=lambda: 1 << 40
    )
    with torch.device("meta"):
        network = BlockStack(LAYERS, WIDTH).to(dtype)

    host = store.open("transformer", network, stored, file_blocks=file_blocks, check=clock.check)
    store.pin([host], clock.check)

    assert clock.seconds >= sum(block.layout.size_bytes for block in host.blocks) / 2 / BYTES_PER_S
    assert clock.longest_s() <= 2 * max(SIZES) / BYTES_PER_S


class TakenBackError(Exception):
    """As the job's flag raises it."""


def answer_s(running: Streamed, taken_back_s: float) -> float:
    """What passes between a job's being taken back and its having left the device."""

    def look(*_inputs: object) -> None:
        if running.transfers.host_s >= taken_back_s:
            raise TakenBackError

    for module in running.modules:
        module.register_forward_pre_hook(look, prepend=True)
    with pytest.raises(TakenBackError), running:
        running.passes(1000)
    return max(running.transfers.host_s, running.clock.seconds) - taken_back_s


@pytest.mark.parametrize("tier", list(HostTier))
@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("blocks_per_s", [0.3, 1.0, 3.0])
def test_a_run_is_left_within_two_blocks_and_what_is_on_its_way(
    tier: HostTier, locked: bool, blocks_per_s: float
) -> None:
    compute_s, read_s = 1.0, 0.5
    count = len(LAYERS_ON_CLOCK)
    largest = max(SIZES_ON_CLOCK)
    for depth, moment in itertools.product((2, 3), range(6)):
        side = HostSide(tiers=[tier] * count, locked=locked, read_s=[read_s] * count)
        running = Streamed(
            [compute_s] * count,
            range(count),
            depth * largest,
            blocks_per_s * largest,
            host_side=side,
        )
        found_s = answer_s(running, 20 + moment * 1.7)
        # To the next look, to the end of what is computed, and of copies into the slots.
        block_s = max(compute_s, 1 / blocks_per_s, read_s)
        assert found_s <= block_s + compute_s + depth / blocks_per_s
        if blocks_per_s > 1:
            assert found_s <= 2 * compute_s + 2 / blocks_per_s

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


def answer_s(running: Streamed, taken_back_s: float) -> tuple[float, float]:
    """What passes from a job's being taken back to the answer, and until the device is quiet."""

    def look(*_inputs: object) -> None:
        if running.transfers.host_s >= taken_back_s:
            raise TakenBackError

    for module in running.modules:
        module.register_forward_pre_hook(look, prepend=True)
    with pytest.raises(TakenBackError), running:
        running.passes(1000)
    told_s = running.transfers.host_s
    running.residence.settle()
    quiet_s = max(running.transfers.host_s, running.clock.seconds)
    return told_s - taken_back_s, quiet_s - taken_back_s


@pytest.mark.parametrize("tier", list(HostTier))
@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("blocks_per_s", [0.3, 1.0, 3.0])
def test_a_run_is_left_within_two_blocks(tier: HostTier, locked: bool, blocks_per_s: float) -> None:
    compute_s, read_s = 1.0, 0.5
    count = len(LAYERS_ON_CLOCK)
    largest = max(SIZES_ON_CLOCK)
    # In a pass that begins, and in the midst of many.
    for depth, moment in itertools.product((2, 3), (*range(8), *range(20, 31))):
        side = HostSide(tiers=[tier] * count, locked=locked, read_s=[read_s] * count)
        running = Streamed(
            [compute_s] * count,
            range(count),
            depth * largest,
            blocks_per_s * largest,
            host_side=side,
        )
        told_s, quiet_s = answer_s(running, moment * 0.93)
        block_s = max(compute_s, 1 / blocks_per_s, read_s)
        assert told_s <= 2 * block_s
        # To the look, to the end of what is computed, and of copies into the slots.
        assert quiet_s <= block_s + compute_s + depth / blocks_per_s


@pytest.mark.parametrize("blocks_per_s", [0.3, 0.7, 1.0, 1.4, 3.0])
def test_no_more_on_the_way_would_be_no_faster(blocks_per_s: float) -> None:
    """Blocks that come to stay: the link is never idle while there is something to wait for."""
    largest = max(SIZES_ON_CLOCK)
    # Large blocks take less time for their bytes: half of their weights see few tokens.
    compute_s = [size / largest * (0.6 if size > largest / 2 else 1) for size in SIZES_ON_CLOCK]
    link_s = now_s = 0.0
    for size, seconds in zip(SIZES_ON_CLOCK, compute_s, strict=True):
        link_s += size / largest / blocks_per_s
        now_s = max(now_s, link_s) + seconds
    with Streamed(compute_s, (), 0, blocks_per_s * largest) as running:
        assert running.passes(1).seconds == pytest.approx(now_s)


@pytest.mark.parametrize("blocks_per_s", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("streamed", [(), (0, 3, 6)])
def test_a_run_whose_blocks_come_to_stay_is_left_within_two_blocks(
    streamed: Sequence[int], blocks_per_s: float
) -> None:
    largest = max(SIZES_ON_CLOCK)
    count = len(LAYERS_ON_CLOCK)
    for moment in range(12):
        running = Streamed([1.0] * count, streamed, 2 * largest, blocks_per_s * largest)
        told_s, quiet_s = answer_s(running, moment * 0.41 / blocks_per_s)
        block_s = max(1.0, 1 / blocks_per_s)
        assert told_s <= 2 * block_s
        # Not of all the others that are still to come.
        on_its_way = 2 if not streamed else 4
        assert quiet_s <= block_s + 1.0 + on_its_way / blocks_per_s

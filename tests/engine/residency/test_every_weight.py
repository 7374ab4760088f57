"""Every kind of weight, in every tier, through any slots and changes: the same bits."""

import contextlib
import itertools
import random
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from app.engine.placement import Placer
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_store import HostStore
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.pinning import Pinning
from app.engine.residency.readers import FileReader
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.stored_weights import Stored, stored_tensors
from tests.fakes.block_stack import DeviceWith, plan_of
from tests.fakes.registrar import FakeRegistrar
from tests.fakes.transfers import LateTransfers
from tests.fakes.weight_kinds import MixedStack

LARGE, SMALL = 2, 4
BLOCKS = range(LARGE + SMALL)
INPUTS = torch.linspace(-1, 1, 3 * 64).view(3, 64)
SETS = st.sets(st.sampled_from(BLOCKS)).map(sorted)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """All plain tensors inside, by the names that a layout has for them."""
    file: Path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    network = MixedStack(LARGE, SMALL)
    tensors = ModuleTensors(network)
    buffer = torch.empty(tensors.layout.size_bytes, dtype=torch.uint8)
    tensors.pack_into(buffer)
    save_file({span.name: span.view_of(buffer).clone() for span in tensors.layout.spans}, file)
    return stored_tensors([file])


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    with torch.no_grad():
        return MixedStack(LARGE, SMALL)(INPUTS)


class Stage:
    """The network in a store whose RAM and locked memory are limited."""

    def __init__(
        self,
        stored: Stored,
        *,
        limit_bytes: int | None = None,
        copies: bool = False,
        file_blocks: Sequence[int] = (),
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self.registrar = FakeRegistrar(limit_bytes, copies=copies)
        self.store = HostStore(
            Pinning(self.registrar, available_bytes=lambda: 1 << 40), room_bytes=lambda: 1 << 40
        )
        self.network = MixedStack(LARGE, SMALL)
        # What is there would be wrong: all is to come from the file.
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            if type(tensor) in (torch.Tensor, torch.nn.Parameter):
                with torch.no_grad():
                    tensor.zero_()
        self.host = self.store.open("transformer", self.network, stored, file_blocks=file_blocks)
        self.store.pin([self.host])
        self.transfers = LateTransfers(hurry, is_pinned=self.registrar.is_locked)
        self.registrar.is_read = self.transfers.reads
        self.placer = Placer({"transformer": self.host}, DeviceWith(self.transfers))
        self.transfers.watch(self.host.modules)
        self.sizes = [block.layout.size_bytes for block in self.host.blocks]

    @property
    def tiers(self) -> list[HostTier]:
        return [block.tier for block in self.host.blocks]

    def place(self, streamed: Sequence[int], slots_bytes: int, file_blocks: Sequence[int]) -> None:
        def rearrange() -> None:
            self.store.follow(self.host, file_blocks)

        self.placer.replace([plan_of(streamed, slots_bytes=slots_bytes)], rearrange=rearrange)

    def close(self) -> None:
        """Whoever drops a model waits for its copies."""
        self.placer.settle()

    def step(self, expected: torch.Tensor) -> None:
        with torch.no_grad():
            assert torch.equal(self.network(INPUTS), expected)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(st.data())
def test_every_kind_of_weight_in_every_tier_has_the_same_bits(
    stored: Stored, expected: torch.Tensor, data: st.DataObject
):
    # Not drawn one by one: readers are real threads, and may ask any number of times.
    bits = random.Random(data.draw(st.integers(0, 99)))
    chance = data.draw(st.sampled_from((0.0, 0.3, 1.0)))
    stage = Stage(
        stored,
        limit_bytes=data.draw(st.sampled_from((None, 0, 60_000, 150_000, 250_000))),
        copies=data.draw(st.booleans()),
        file_blocks=data.draw(SETS),
        hurry=lambda: bits.random() < chance,
    )

    def draw_plan() -> None:
        slots = data.draw(st.sampled_from((0, 100_000, 200_000, 1 << 20)))
        stage.place(data.draw(SETS), slots, data.draw(SETS))

    draw_plan()
    # Also when hypothesis breaks off an example: then the stage is dropped as it is.
    with contextlib.closing(stage), stage.placer.phase("transformer"):
        for _step in range(2):
            change_at = data.draw(st.sampled_from((None, *BLOCKS)))
            stage.network.between = lambda block, at=change_at: draw_plan() if block == at else None
            stage.step(expected)
    assert not stage.transfers.held
    assert not stage.transfers.pending


def test_blocks_of_ordinary_ram_never_keep_the_host(stored: Stored, expected: torch.Tensor):
    whole = Stage(stored)
    stage = Stage(stored, limit_bytes=sum(whole.sizes) - 1)
    assert set(stage.tiers) == {HostTier.PINNED, HostTier.PAGEABLE}
    stage.place(BLOCKS, 0, (3,))
    assert set(stage.tiers) == set(HostTier)
    with stage.placer.phase("transformer"):
        kept = stage.transfers.host_kept
        for _step in range(3):
            stage.step(expected)
        # The rest, which comes once and is small, has no buffer to pass through.
        assert stage.transfers.host_kept == kept
    reader = stage.host.reader
    assert isinstance(reader, FileReader)
    assert 0 < reader.all_bytes <= BOUNCE_BUFFERS * max(stage.sizes)
    assert stage.registrar.locked_bytes < sum(stage.sizes)


def test_without_locked_ram_a_block_computes_before_the_next_is_copied(
    stored: Stored, expected: torch.Tensor
):
    """The copy keeps the host: then the device is to have something to do."""
    stage = Stage(stored, limit_bytes=0)
    stage.place(BLOCKS, 1 << 17, ())
    kept: list[int] = []
    stage.network.between = lambda _block: kept.append(stage.transfers.host_kept)
    with stage.placer.phase("transformer"):
        for _step in range(3):
            stage.step(expected)
    assert all(after - before <= 1 for before, after in itertools.pairwise(kept))
    assert kept[0] == 2, "the rest and the first block, when there was nothing to compute"
    assert stage.transfers.copies == stage.transfers.host_kept


def test_ram_of_what_is_only_streamed_is_free_once_it_has_left(
    stored: Stored, expected: torch.Tensor
):
    """Before it has computed nothing else has taken the place of what was there."""
    stage = Stage(stored)
    stage.place(BLOCKS, 0, ())
    with stage.placer.phase("transformer"):
        packed = [block.packed() for block in stage.host.blocks]
        in_ram = [weakref.ref(one.untyped_storage()) for one in packed if one is not None]
        assert len(in_ram) == len(BLOCKS)
        del packed
        stage.place(BLOCKS, 0, BLOCKS)
        assert not any(one() is not None for one in in_ram)
        stage.step(expected)


def test_weights_that_a_block_shares_stay_shared(stored: Stored, expected: torch.Tensor):
    stage = Stage(stored)
    stage.place((), 0, ())
    with stage.placer.phase("transformer"):
        stage.step(expected)
        layers = stage.network.get_submodule("transformer_blocks.0.layers")
        shared = [layers.get_submodule(name).weight for name in ("0", "6")]
        assert shared[0] is shared[1]

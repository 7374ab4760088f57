"""The computer's side: one copy of each weight, tiers that change without reading anew."""

import gc
import logging
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from app.engine.residency import host_store, stored_block
from app.engine.residency.host_block import HostBlock, HostTier
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.host_store import HostStore, find_missing
from app.engine.residency.pinning import MIN_RAM_LEFT_BYTES, Pinning, spread_order
from app.engine.residency.readers import FileReader
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.stored_block import StoredBlock
from app.engine.stored_weights import Stored, stored_tensors
from tests.fakes.registrar import FakeRegistrar

DOUBLE, SINGLE = 2, 4
PINNED, PAGEABLE, FILE = HostTier.PINNED, HostTier.PAGEABLE, HostTier.FILE


class Network(torch.nn.Module):
    """Blocks of two sizes, as a transformer has them, and something besides."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = torch.nn.Linear(8, 16)
        self.transformer_blocks = torch.nn.ModuleList(
            torch.nn.Linear(16, 64, bias=False) for _ in range(DOUBLE)
        )
        self.single_transformer_blocks = torch.nn.ModuleList(
            torch.nn.Linear(16, 16) for _ in range(SINGLE)
        )
        self.register_buffer("frequencies", torch.empty(4), persistent=False)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in Network().state_dict().items()
    }


@pytest.fixture
def stored(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Stored:
    """In two files, as large models are."""
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, tmp_path / f"{number}.safetensors")
    return stored_tensors(sorted(tmp_path.glob("*.safetensors")))


def skeleton(dtype: torch.dtype = torch.float32) -> Network:
    with torch.device("meta"):
        network = Network().to(dtype)
    network.register_buffer("frequencies", torch.arange(4.0), persistent=False)
    return network


def plenty() -> int:
    return 1 << 40


def store_with(
    registrar: FakeRegistrar | None = None, room_bytes: Callable[[], int] = plenty
) -> HostStore:
    pinning = None if registrar is None else Pinning(registrar, available_bytes=plenty)
    return HostStore(pinning, room_bytes=room_bytes)


def tiers(host: HostNetwork) -> list[HostTier]:
    return [block.tier for block in host.blocks]


def check_content(host: HostNetwork, weights: dict[str, torch.Tensor]) -> None:
    prefixes = [f"transformer_blocks.{index}." for index in range(DOUBLE)]
    prefixes += [f"single_transformer_blocks.{index}." for index in range(SINGLE)]
    everything = {**weights, "frequencies": torch.arange(4.0)}
    seen: set[str] = set()
    for prefix, block in zip(["", *prefixes], [host.rest, *host.blocks], strict=True):
        out = torch.zeros(block.layout.size_bytes, dtype=torch.uint8)
        block.read_into(out)
        packed = block.packed()
        assert (packed is None) == (block.tier is FILE)
        for span in block.layout.spans:
            name = f"{prefix}{span.name}"
            expected = everything[name].to(span.dtype)
            assert torch.equal(span.view_of(out), expected), name
            if packed is not None:
                assert torch.equal(span.view_of(packed), expected), name
            seen.add(name)
    assert seen == set(everything)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_is_packed_in_ram_once(
    stored: Stored,
    weights: dict[str, torch.Tensor],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    real = stored_block.paged_buffer

    def counted(size_bytes: int) -> torch.Tensor:
        made.append(size_bytes)
        return real(size_bytes)

    monkeypatch.setattr(stored_block, "paged_buffer", counted)
    network = skeleton(dtype)

    host = store_with().open("transformer", network, stored)

    assert tiers(host) == [PAGEABLE] * 6
    check_content(host, weights)
    assert sum(made) == host.size_bytes, "one buffer a block, and nothing else"
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_that_computes_in_place_gets_the_mapped_files(
    stored: Stored, weights: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    network = skeleton(dtype)
    host = HostStore(in_place=True).open("transformer", network, stored)

    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, weights[name].to(dtype))
        assert not parameter.requires_grad
        of_file = parameter.untyped_storage().nbytes() > parameter.nbytes
        assert of_file == (dtype == torch.float32), "converted ones have RAM of their own"
    assert torch.equal(network.get_buffer("frequencies"), torch.arange(4.0))
    assert tiers(host) == [FILE] * 6
    own_bytes = sum(parameter.nbytes for parameter in network.parameters())
    assert host.ram_bytes == (0 if dtype == torch.float32 else own_bytes)
    check_content(host, weights)


def test_progress_and_checks_come_block_by_block(stored: Stored) -> None:
    told: list[int] = []
    looks: list[None] = []
    host = store_with().open(
        "transformer",
        skeleton(),
        stored,
        check=lambda: looks.append(None),
        progress=told.append,
    )
    assert sum(told) == host.size_bytes
    assert sorted(told) == sorted(block.layout.size_bytes for block in (host.rest, *host.blocks))
    assert len(looks) >= len(told)


class StopError(Exception):
    """Loading is to stop."""


class Looks:
    """Counts checks, and stops at one of them."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.seen = 0
        self._most = most

    def __call__(self) -> None:
        if self.seen == self._most:
            raise StopError
        self.seen += 1


def test_loading_stops_at_any_check(stored: Stored) -> None:
    store, looks = store_with(), Looks()
    store.open("transformer", skeleton(), stored, check=looks)
    assert looks.seen > DOUBLE + SINGLE
    for most in range(looks.seen):
        with pytest.raises(StopError):
            store.open("transformer", skeleton(), stored, check=Looks(most))


def test_blocks_of_the_plan_stay_in_the_files(
    stored: Stored, weights: dict[str, torch.Tensor]
) -> None:
    host = store_with().open("transformer", skeleton(), stored, file_blocks=(1, 4))
    assert tiers(host) == [PAGEABLE, FILE, PAGEABLE, PAGEABLE, FILE, PAGEABLE]
    check_content(host, weights)
    assert host.reader is not None
    reading = host.reader.start(host.blocks[4])
    assert reading is not None
    again = torch.empty_like(reading.wait())
    host.blocks[4].read_into(again)
    for span in host.blocks[4].layout.spans:
        assert torch.equal(span.view_of(reading.wait()), span.view_of(again))
    reading.release()


def test_network_larger_than_ram_stays_in_the_files_spread_evenly(
    stored: Stored, weights: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    sizes = [block.layout.size_bytes for block in _open(stored, ()).blocks]
    room_bytes = sum(sizes) - 1
    with caplog.at_level(logging.INFO):
        host = store_with(room_bytes=lambda: room_bytes).open("transformer", skeleton(), stored)
    in_ram = sum(b.layout.size_bytes for b in host.blocks if b.tier is not FILE)
    assert 0 < in_ram <= room_bytes
    # One small block, besides the buffers that the others pass through: a middle one of the row.
    assert BOUNCE_BUFFERS * max(sizes) + min(sizes) <= room_bytes
    assert tiers(host) == [FILE, FILE, FILE, FILE, PAGEABLE, FILE]
    assert "RAM is short" in caplog.text
    check_content(host, weights)

    nothing = store_with(room_bytes=lambda: 0).open("transformer", skeleton(), stored)
    assert tiers(nothing) == [FILE] * 6
    assert nothing.rest.tier is PAGEABLE, "what is needed at each step is kept in any case"
    check_content(nothing, weights)


def test_buffers_for_what_the_plan_leaves_in_the_files_have_room(stored: Stored) -> None:
    sizes = [block.layout.size_bytes for block in _open(stored, ()).blocks]
    room_bytes = sum(sizes[1:]) + BOUNCE_BUFFERS * max(sizes)
    for missing, left_out in ((0, 0), (1, 1)):
        store = store_with(room_bytes=lambda missing=missing: room_bytes - missing)
        host = store.open("transformer", skeleton(), stored, file_blocks=(0,))
        assert tiers(host).count(FILE) == 1 + left_out


def test_the_system_keeps_some_ram(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    size_bytes = pages(_open(stored, ()).blocks)
    for missing in (0, 1):
        ram = SimpleNamespace(available=MIN_RAM_LEFT_BYTES + size_bytes - missing)
        monkeypatch.setattr(host_store.psutil, "virtual_memory", lambda ram=ram: ram)
        host = HostStore().open("transformer", skeleton(), stored)
        assert (FILE in tiers(host)) == bool(missing)


def _open(stored: Stored, file_blocks: Collection[int], **options: Any) -> HostNetwork:
    return store_with(**options).open("transformer", skeleton(), stored, file_blocks=file_blocks)


def test_tiers_follow_the_plan_without_reading_what_stays(
    stored: Stored, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_with()
    host = store.open("transformer", skeleton(), stored, file_blocks=(0,))
    kept = [block.packed() for block in host.blocks]
    made: list[int] = []
    real = stored_block.paged_buffer
    monkeypatch.setattr(stored_block, "paged_buffer", lambda size: made.append(size) or real(size))

    assert store.follow(host, (0, 3, 5))
    assert tiers(host) == [FILE, PAGEABLE, PAGEABLE, FILE, PAGEABLE, FILE]
    check_content(host, weights)
    assert not store.follow(host, (5, 3, 0))
    assert made == []

    assert store.follow(host, (3,))
    assert tiers(host) == [PAGEABLE, PAGEABLE, PAGEABLE, FILE, PAGEABLE, PAGEABLE]
    assert sorted(made) == sorted(host.blocks[index].layout.size_bytes for index in (0, 5))
    assert [host.blocks[index].packed() is kept[index] for index in (1, 2, 4)] == [True] * 3
    check_content(host, weights)


def test_ram_of_a_block_that_is_let_go_is_free(stored: Stored) -> None:
    store = store_with(FakeRegistrar())
    host = store.open("transformer", skeleton(), stored)
    store.pin([host])
    packed = host.blocks[0].packed()
    assert packed is not None
    alive = weakref.ref(packed)
    del packed
    store.follow(host, (0,))
    gc.collect()
    assert alive() is None


def pages(blocks: Sequence[HostBlock]) -> int:
    return sum(block.layout.size_bytes for block in blocks)


def test_the_first_network_is_locked_first(stored: Stored) -> None:
    first = _open(stored, ())
    registrar = FakeRegistrar(limit_bytes=pages(first.blocks) + 13_000)
    store = store_with(registrar)
    first = store.open("transformer", skeleton(), stored)
    second = store.open("transformer", skeleton(), stored)
    assert not registrar.locked, "all are in RAM before any is locked"

    store.pin([first, second])

    assert tiers(first) == [PINNED] * 6
    # The last small block was refused: the others give up room for buffers that are as large.
    assert tiers(second) == [PINNED] * DOUBLE + [PAGEABLE] * SINGLE
    assert second.reader is not None
    assert second.reader.is_locked(second.blocks[-1].layout.size_bytes)
    assert registrar.locked_bytes <= pages(first.blocks) + 13_000


def test_what_was_unlocked_for_buffers_and_is_left_over_is_locked_again(stored: Stored) -> None:
    """Three large buffers take less than the last large block gave, by one of the small ones."""
    first = _open(stored, ())
    registrar = FakeRegistrar(limit_bytes=pages(first.blocks))
    store = store_with(registrar)
    hosts = [store.open("transformer", skeleton(), stored) for _ in range(2)]
    store.pin(hosts)
    assert tiers(hosts[0]).count(PINNED) == 1
    assert tiers(hosts[1]) == [PAGEABLE] * 6
    assert isinstance(hosts[0].reader, FileReader)
    assert hosts[0].reader.locked_count(hosts[0].blocks[0].layout.size_bytes) == BOUNCE_BUFFERS


@pytest.mark.parametrize("blocks_locked", [4, 5])
def test_blocks_that_are_not_locked_have_locked_buffers_to_pass_through(
    stored: Stored, weights: dict[str, torch.Tensor], blocks_locked: int
) -> None:
    sizes = [block.layout.size_bytes for block in _open(stored, ()).blocks]
    order = [sizes[index] for index in spread_order(len(sizes))]
    registrar = FakeRegistrar(limit_bytes=sum(order[:blocks_locked]))
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored)
    store.pin([host])
    assert host.reader is not None
    waiting = [block for block in host.blocks if block.tier is not PINNED]
    assert all(host.reader.is_locked(block.layout.size_bytes) for block in waiting)
    asked = registrar.asked
    assert registrar.refused == 1, "that ended it: what came after took what was given back"
    reading = host.reader.start(waiting[0])
    assert reading is not None
    packed = waiting[0].packed()
    assert packed is not None
    assert torch.equal(reading.wait(), packed)
    assert reading.wait().data_ptr() in registrar.locked
    reading.release()
    check_content(host, weights)

    before = tiers(host)
    for _again in range(2):
        assert not store.follow(host, ())
        assert tiers(host) == before
    assert registrar.asked == asked, "following again asks the driver for nothing"


def test_blocks_that_stay_locked_are_spread_evenly(tmp_path: Path) -> None:
    """Those that buffers take the place of are the last that were locked."""
    count = 12
    network = Network()
    network.transformer_blocks = torch.nn.ModuleList(
        torch.nn.Linear(16, 16, bias=False) for _ in range(count)
    )
    network.single_transformer_blocks = torch.nn.ModuleList()
    network.register_buffer("frequencies", None)
    save_file(network.state_dict(), tmp_path / "equal.safetensors")
    registrar = FakeRegistrar(limit_bytes=9 * 1024)
    store = store_with(registrar)
    host = store.open(
        "transformer", network.to("meta"), stored_tensors([tmp_path / "equal.safetensors"])
    )
    store.pin([host])
    locked = {index for index, tier in enumerate(tiers(host)) if tier is PINNED}
    assert locked == set(spread_order(count)[: 9 - BOUNCE_BUFFERS])


def test_without_locked_ram_there_are_no_buffers(stored: Stored) -> None:
    store = store_with(FakeRegistrar(limit_bytes=0))
    host = store.open("transformer", skeleton(), stored)
    store.pin([host])
    assert tiers(host) == [PAGEABLE] * 6
    assert host.reader is not None
    assert not host.reader.is_locked(512)
    assert isinstance(host.reader, FileReader)
    assert host.reader.all_bytes == 0


def test_buffers_take_no_ram_that_is_not_there(stored: Stored) -> None:
    room = [1 << 40]
    store = store_with(FakeRegistrar(limit_bytes=9000), room_bytes=lambda: room[0])
    host = store.open("transformer", skeleton(), stored)
    room[0] = 1000
    store.pin([host])
    assert isinstance(host.reader, FileReader)
    assert host.reader.all_bytes == 0
    assert PINNED in tiers(host), "and nothing was unlocked for them"


def test_locking_stops_between_two_blocks(stored: Stored) -> None:
    def check() -> None:
        if len(registrar.locked) == 2:
            raise StopError

    registrar = FakeRegistrar()
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored)
    with pytest.raises(StopError):
        store.pin([host], check)
    assert len(registrar.locked) == 2


def test_blocks_that_come_back_to_ram_are_locked_too(
    stored: Stored, weights: dict[str, torch.Tensor]
) -> None:
    registrar = FakeRegistrar()
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored, file_blocks=(2,))
    store.pin([host])
    assert tiers(host) == [PINNED, PINNED, FILE, PINNED, PINNED, PINNED]
    store.follow(host, (1,))
    assert tiers(host) == [PINNED, FILE, PINNED, PINNED, PINNED, PINNED]
    assert isinstance(host.reader, FileReader)
    in_ram = [block for block in host.blocks if block.tier is PINNED]
    assert registrar.locked_bytes == pages(in_ram) + host.reader.all_bytes
    check_content(host, weights)


def test_no_more_is_locked_after_the_device_was_filled(stored: Stored) -> None:
    registrar = FakeRegistrar()
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored, file_blocks=(2, 3, 4, 5))
    store.pin([host])
    most = registrar.locked_bytes
    for _again in range(2):
        store.follow(host, ())
        assert registrar.locked_bytes <= most
        assert FILE not in tiers(host)
        assert PAGEABLE in tiers(host)
    asked = registrar.asked
    store.follow(host, ())
    assert registrar.asked == asked


def test_blocks_come_back_to_ram_when_there_is_enough_of_it(
    stored: Stored, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = 4096
    monkeypatch.setattr(host_store, "COMEBACK_BYTES", spare)
    room = [0]
    store = store_with(room_bytes=lambda: room[0])
    host = store.open("transformer", skeleton(), stored)
    assert tiers(host) == [FILE] * 6
    assert not store.would_move(host, ())
    assert not store.follow(host, ())

    # Room for a block and what others pass through: it would come and go with every little change.
    sizes = [block.layout.size_bytes for block in host.blocks]
    room[0] = BOUNCE_BUFFERS * max(sizes) + min(sizes)
    assert room[0] < sum(sizes)
    assert not store.would_move(host, ())
    assert not store.follow(host, ())
    room[0] = pages(host.blocks) + spare
    assert store.would_move(host, ())
    assert store.follow(host, ())
    assert tiers(host) == [PAGEABLE] * 6
    room[0] = 0
    assert not store.would_move(host, ())
    assert not store.follow(host, ()), "what is in RAM stays until the plan says otherwise"
    assert store.would_move(host, (1,))
    assert store.follow(host, (1,))
    # The plan had sent it away: it needs no more room than it takes.
    room[0] = sizes[1]
    assert store.follow(host, ())
    check_content(host, weights)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_following_twice_is_following_once(stored: Stored, data: st.DataObject) -> None:
    limit = data.draw(st.sampled_from([None, 0, 4096, 9000, 20_000]))
    rooms = st.sampled_from([0, 3000, 9000, 1 << 40])
    room = [data.draw(rooms)]
    registrar = FakeRegistrar(limit, copies=data.draw(st.booleans()))
    store = store_with(registrar, room_bytes=lambda: room[0])
    host = store.open("transformer", skeleton(), stored)
    store.pin([host])
    most = registrar.locked_bytes
    for _change in range(3):
        room[0] = data.draw(rooms)
        on_disk = sorted(data.draw(st.sets(st.integers(0, DOUBLE + SINGLE - 1))))
        store.follow(host, on_disk)
        assert all(tiers(host)[index] is FILE for index in on_disk)
        most = max(most, registrar.locked_bytes)
        assert limit is None or registrar.locked_bytes <= limit
        before, asked = tiers(host), registrar.asked
        locked = dict(registrar.locked)
        # Room is what it is, whatever was taken: so nothing that was left out may come now.
        room[0] = 0
        assert not store.would_move(host, on_disk)
        assert not store.follow(host, on_disk)
        assert tiers(host) == before
        assert registrar.locked == locked
        assert registrar.asked == asked


def test_buffers_stay_for_blocks_that_are_not_worth_locking(stored: Stored) -> None:
    """Locked copies are rounded up; there is no RAM to have the buffers made a second time."""
    room = [1 << 40]
    registrar = FakeRegistrar(copies=True)
    store = store_with(registrar, room_bytes=lambda: room[0])
    host = store.open("transformer", skeleton(), stored)
    store.pin([host])
    small = host.blocks[-1].layout.size_bytes
    for on_disk in ([0], []):
        # While a large block is on the disk the buffers are large, and more is locked than ever.
        room[0] = 9000
        store.follow(host, on_disk)
        room[0] = 0
        assert not store.follow(host, on_disk)
        assert host.reader is not None
        assert host.reader.is_locked(small)
    assert tiers(host)[-SINGLE:] == [PAGEABLE] * SINGLE


def test_locked_copies_take_the_place_of_what_they_copy(
    stored: Stored, weights: dict[str, torch.Tensor]
) -> None:
    registrar = FakeRegistrar(copies=True)
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored)
    before = host.blocks[0].packed()
    assert before is not None
    alive = weakref.ref(before)
    del before
    store.pin([host])
    # A small block would take a third more than it is: it goes through a buffer.
    assert tiers(host) == [PINNED] * DOUBLE + [PAGEABLE] * SINGLE
    assert alive() is None
    check_content(host, weights)
    assert host.ram_bytes == host.size_bytes
    assert isinstance(host.reader, FileReader)
    assert host.reader.is_locked(host.blocks[-1].layout.size_bytes)
    block = host.blocks[0]
    assert isinstance(block, StoredBlock)
    block.unpin()
    assert block.tier is PAGEABLE
    check_content(host, weights)


def test_model_that_is_dropped_unlocks_its_ram(stored: Stored) -> None:
    registrar = FakeRegistrar(limit_bytes=20_000)
    store = store_with(registrar)
    first = store.open("transformer", skeleton(), stored)
    second = store.open("transformer", skeleton(), stored)
    store.pin([first])
    store.pin([second])
    assert len(registrar.locked) > 6
    del second
    gc.collect()
    assert len(registrar.locked) == 6, "its buffers are gone with it"
    del first
    gc.collect()
    assert registrar.locked == {}


def test_bounce_buffers_are_locked_and_unlocked(stored: Stored) -> None:
    registrar = FakeRegistrar()
    store = store_with(registrar)
    host = store.open("transformer", skeleton(), stored, file_blocks=(0,))
    store.pin([host])
    assert host.reader is not None
    reading = host.reader.start(host.blocks[0])
    assert reading is not None
    assert reading.wait().data_ptr() in registrar.locked
    reading.release()
    store.follow(host, ())
    assert tiers(host) == [PINNED] * 6
    assert len(registrar.locked) == 6, "the blocks themselves; the bounce buffers are given back"


def test_what_is_missing_is_named(stored: Stored) -> None:
    network = skeleton()
    assert find_missing(network, stored).absent == ()
    assert find_missing(network, stored).of_another_shape == ()
    changed = dict(stored)
    del changed["entry.bias"]
    changed["entry.weight"] = changed["transformer_blocks.0.weight"]
    missing = find_missing(network, changed)
    assert missing.absent == ("entry.bias",)
    assert missing.of_another_shape == ("entry.weight",)


def test_keeping_twice_and_letting_go_twice_changes_nothing(stored: Stored) -> None:
    host = _open(stored, ())
    block = host.blocks[0]
    assert isinstance(block, StoredBlock)
    packed = block.packed()
    block.keep()
    assert block.packed() is packed
    assert not block.pin(), "there is nobody to lock it"
    block.let_go()
    block.let_go()
    assert block.tier is FILE

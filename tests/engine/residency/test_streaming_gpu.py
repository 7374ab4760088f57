"""Streaming on a real GPU: the same bits, no memory asked for in the loop, and nothing waits.

Not tried on a real GPU: none was at hand when this was written.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.core.plan import Placement
from app.engine.compute_device import AcceleratorDevice
from app.engine.placement import Placer
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostNetwork, packed_network
from app.engine.residency.host_store import HostStore
from app.engine.residency.pinning import CudaRegistrar, Pinning
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.transfers import Mark
from app.engine.stored_weights import stored_tensors
from tests.fakes.block_stack import BlockStack, plan_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LAYERS = (4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2)
BLOCKS = range(len(LAYERS))
WIDTH = 2048


@pytest.fixture(scope="module")
def device() -> AcceleratorDevice:
    return AcceleratorDevice(torch.device("cuda:0"))


@pytest.fixture(scope="module")
def host(device: AcceleratorDevice) -> HostNetwork:
    network = BlockStack(LAYERS, WIDTH).to(torch.bfloat16)
    return packed_network("transformer", network, allocate=device.transfers.host_buffer)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randn(4096, WIDTH, dtype=torch.bfloat16, device="cuda:0")


@pytest.fixture
def placer(host: HostNetwork, device: AcceleratorDevice) -> Iterator[Placer]:
    made = Placer({"transformer": host}, device)
    yield made
    made.forget("transformer")


@pytest.fixture(scope="module")
def expected(host: HostNetwork, device: AcceleratorDevice, inputs: torch.Tensor) -> torch.Tensor:
    """With everything resident, by a placer that is gone before another one lends the weights."""
    placer = Placer({"transformer": host}, device)
    with torch.no_grad(), placer.phase("transformer"):
        found = host.network(inputs)
    placer.forget("transformer")
    return found


@pytest.mark.parametrize("streamed", [tuple(BLOCKS), (1, 3, 5, 7, 9, 11), (0, 1, 2, 10)])
@pytest.mark.parametrize("depth", [1, 2])
def test_streamed_is_the_same_and_asks_for_no_memory(
    placer: Placer,
    host: HostNetwork,
    inputs: torch.Tensor,
    expected: torch.Tensor,
    streamed: tuple[int, ...],
    depth: int,
):
    sizes = [host.blocks[block].layout.size_bytes for block in streamed]
    placer.replace([plan_of(streamed, slots_bytes=depth * least_slots_bytes(sizes))])
    with torch.no_grad(), placer.phase("transformer"):
        # As many results at once as below, for which there is memory then.
        warm = [host.network(inputs) for _step in range(3)]
        assert all(torch.equal(one, expected) for one in warm)
        del warm
        before = torch.cuda.memory_stats()
        torch.cuda.set_sync_debug_mode("error")
        try:
            results = [host.network(inputs) for _step in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        after = torch.cuda.memory_stats()
        # What blocks compute comes from what the allocator has; nothing new was asked for.
        assert after["num_device_alloc"] == before["num_device_alloc"]
        # And no more than the three results are there than before.
        held = after["active_bytes.all.current"] - before["active_bytes.all.current"]
        assert held <= sum(one.nbytes for one in results)
        assert all(torch.equal(one, expected) for one in results)
    assert placer.device_bytes() == 0


def test_residency_changes_between_two_blocks(
    placer: Placer, host: HostNetwork, inputs: torch.Tensor, expected: torch.Tensor
):
    plans = {3: plan_of(BLOCKS), 7: plan_of((0, 2, 4, 6, 8)), 9: plan_of()}

    def change(block: int) -> None:
        if block in plans:
            placer.replace([plans[block]])

    stack = host.network
    assert isinstance(stack, BlockStack)
    stack.between = change
    try:
        with torch.no_grad(), placer.phase("transformer"):
            for _step in range(4):
                assert torch.equal(stack(inputs), expected)
    finally:
        stack.between = lambda _block: None


def test_copies_take_no_longer_than_computing_where_computing_is_longer(
    placer: Placer, host: HostNetwork, inputs: torch.Tensor
):
    """Large inputs, so that copies hide: then hardly any of the copying is waited for."""
    many = inputs.repeat(16, 1)
    placer.replace([plan_of(BLOCKS)])
    with torch.no_grad(), placer.phase("transformer"):
        host.network(many)
        torch.cuda.synchronize()
        placer.take_streaming()
        for _step in range(3):
            host.network(many)
        torch.cuda.synchronize()
        streaming = placer.take_streaming()
    assert streaming is not None
    assert streaming.streamed_bytes >= 2 * host.size_bytes
    assert streaming.waited_s < streaming.copying_s


def test_memory_of_what_is_broken_off_is_not_used_before_copies_into_it_have_ended(
    placer: Placer, host: HostNetwork, inputs: torch.Tensor, expected: torch.Tensor
):
    """Nobody waits for the copies, and what has the memory next is not written to."""
    stack = host.network
    assert isinstance(stack, BlockStack)
    sizes = [block.layout.size_bytes for block in host.blocks]
    for streamed in ((), BLOCKS):
        placer.replace([plan_of(streamed, slots_bytes=2 * least_slots_bytes(sizes))])
        stack.between = lambda block: [][block]
        with pytest.raises(IndexError), torch.no_grad(), placer.phase("transformer"):
            stack(inputs)
        stack.between = lambda _block: None
        others = [torch.zeros(size, dtype=torch.uint8, device="cuda:0") for size in sizes]
        torch.cuda.synchronize()
        assert not any(bool(one.any()) for one in others)
        del others
        with torch.no_grad(), placer.phase("transformer"):
            assert torch.equal(stack(inputs), expected)


def test_resident_weights_are_given_back(placer: Placer, host: HostNetwork):
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    placer.replace([plan_of(placement=Placement.RESIDENT)])
    assert torch.cuda.memory_allocated() - before == host.size_bytes
    placer.replace([plan_of(BLOCKS)])
    assert torch.cuda.memory_allocated() == before


class LimitedRegistrar(CudaRegistrar):
    """Refuses like a driver that has locked enough."""

    def __init__(self, device: torch.device, limit_bytes: int) -> None:
        super().__init__(device)
        self._left_bytes = limit_bytes

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        if buffer.nbytes > self._left_bytes:
            return None
        self._left_bytes -= buffer.nbytes
        return super().lock(buffer)

    def unlock(self, buffer: torch.Tensor) -> None:
        super().unlock(buffer)
        self._left_bytes += buffer.nbytes


@pytest.mark.parametrize("file_blocks", [(), (1, 5)])
def test_blocks_of_ordinary_ram_and_of_the_disk_keep_nobody(
    host: HostNetwork,
    device: AcceleratorDevice,
    inputs: torch.Tensor,
    expected: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_blocks: tuple[int, ...],
):
    """They go through locked buffers: no call in the loop may wait for the device.

    Torch tells of no copy from ordinary RAM, in which the driver itself keeps the host.
    """
    copy, pinned = device.transfers.copy, list[bool]()

    def noted(target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
        pinned.append(source.is_pinned())
        return copy(target, source, after)

    file = tmp_path / "model.safetensors"
    save_file(
        {name: one.cpu().contiguous() for name, one in host.network.state_dict().items()}, file
    )
    with torch.device("meta"):
        network = BlockStack(LAYERS, WIDTH).to(torch.bfloat16)
    sizes = [block.layout.size_bytes for block in host.blocks]
    registrar = LimitedRegistrar(torch.device("cuda:0"), sum(sizes) // 2)
    store = HostStore(Pinning(registrar))
    opened = store.open("transformer", network, stored_tensors([file]), file_blocks=file_blocks)
    store.pin([opened])
    tiers = {block.tier for block in opened.blocks}
    assert tiers >= {HostTier.PINNED, HostTier.PAGEABLE}
    placer = Placer({"transformer": opened}, device)
    placer.replace([plan_of(BLOCKS, slots_bytes=2 * least_slots_bytes(sizes))])
    with torch.no_grad(), placer.phase("transformer"):
        assert torch.equal(network(inputs), expected)
        monkeypatch.setattr(device.transfers, "copy", noted)
        torch.cuda.set_sync_debug_mode("error")
        try:
            results = [network(inputs) for _step in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(torch.equal(one, expected) for one in results)
    assert len(pinned) >= 2 * len(BLOCKS)
    assert all(pinned)
    placer.forget("transformer")

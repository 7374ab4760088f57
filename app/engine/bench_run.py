"""The short bench: computing, copying, and a step that streams all its weights.

The streamed step is done by the same code that runs stream with. The GPU's part was not tried on a
real GPU; it is tested on the simulated one.
"""

import gc
import logging
from collections.abc import Callable

import torch

from app.core.bench_result import BenchResult
from app.core.errors import describe
from app.core.events import BenchDone
from app.core.jobs import Phase
from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.core.streaming import Streaming
from app.engine.bench_stack import StackShape, make_stack
from app.engine.compute_device import ComputeDevice
from app.engine.devices import run_dtype
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostNetwork, packed_network, unpacked_network
from app.engine.residency.residence import Residence
from app.engine.residency.timeline import step_seconds
from app.engine.residency.transfers import Transfers
from app.engine.vram_limit import keep_in_vram

log = logging.getLogger(__name__)

GPU_SHAPE = StackShape(blocks=8, width=2048, hidden=4096, tokens=4608)
"""256 MB in bf16; with the tokens of a 1024 px image and its prompt, as much work for each byte of
weights as FLUX.2 has."""
CPU_SHAPE = StackShape(blocks=8, width=512, hidden=2048, tokens=256)
LEAST_BLOCKS = 4
MEMORY_SHARE = 4
"""At most this part of what is free on the device is used for weights."""
SLOTS = 3
WARM_UP_STEPS = 2
MIN_SECONDS = 1.0
MAX_STEPS = 200
COPIES = 24
_NAME = "transformer"


def bench(device: ComputeDevice) -> BenchDone:
    """Measure everything and say what was found, or why it was not."""
    try:
        # Speeds of what Windows has moved to RAM would be taken for the GPU's.
        keep_in_vram(device)
        return BenchDone(result=measure(device))
    # RuntimeError: torch's, for memory that is not there and for faults of a driver.
    except (RuntimeError, OSError, MemoryError) as error:
        log.exception("the bench failed")
        return BenchDone(error=describe(error))
    finally:
        # What refers to itself would keep locked RAM.
        gc.collect()
        device.release_cached()


def measure(device: ComputeDevice, *, shape: StackShape | None = None) -> BenchResult:
    """Measure everything; takes some seconds.

    Args:
        device: To measure.
        shape: Of the stack; None is one that suits the machine.

    Raises:
        RuntimeError: The device has no memory left for it, or fails.
    """
    began_s = device.clock_s()
    dtype = run_dtype(device.torch_device, torch.float32)
    shape = shape or shape_for(device, dtype)
    transfers = device.transfers
    stack = make_stack(shape, dtype)
    host = (
        unpacked_network(_NAME, stack)
        if transfers.in_place
        else packed_network(_NAME, stack, allocate=transfers.host_buffer)
    )
    noise = torch.randn(
        shape.tokens, shape.width, dtype=dtype, generator=torch.Generator().manual_seed(1)
    )
    residence = Residence(host, transfers)
    try:
        with torch.no_grad(), device.watch(Phase.DENOISE):
            tokens = device.to_device(noise)
            return _measured(device, shape, host, residence, tokens, began_s)
    finally:
        residence.forget()


def shape_for(device: ComputeDevice, dtype: torch.dtype) -> StackShape:
    """A stack that a machine computes in a moment, and has room for."""
    full = CPU_SHAPE if device.transfers.in_place else GPU_SHAPE
    room = device.free_bytes() // MEMORY_SHARE // full.block_bytes(dtype)
    return StackShape(
        blocks=int(max(LEAST_BLOCKS, min(full.blocks, room))),
        width=full.width,
        hidden=full.hidden,
        tokens=full.tokens,
    )


def _measured(
    device: ComputeDevice,
    shape: StackShape,
    host: HostNetwork,
    residence: Residence,
    tokens: torch.Tensor,
    began_s: float,
) -> BenchResult:
    def step() -> None:
        host.network(tokens)

    transfers = device.transfers
    sizes = [block.layout.size_bytes for block in host.blocks]
    _place(residence, sizes, streamed=False)
    compute_s, _ = _step_seconds(device, step)
    copy_speed = streamed_s = predicted_s = None
    streaming: Streaming | None = None
    slots_bytes = 0
    remarks: list[str] = []
    if transfers.in_place:
        remarks.append(
            "The CPU computes with weights where they are: there is no link to measure, and "
            "nothing streams."
        )
    else:
        residence.evict()
        copy_speed = _copy_bytes_per_s(device, host)
        _place(residence, sizes, streamed=True)
        slots_bytes = residence.slots_bytes()
        streamed_s, streaming = _step_seconds(device, step, transfers=transfers)
        predicted_s = step_seconds(
            [compute_s / len(sizes)] * len(sizes),
            sizes,
            range(len(sizes)),
            slots_bytes,
            copy_speed,
        ).seconds
    pinned = all(block.tier is HostTier.PINNED for block in host.blocks)
    if not transfers.in_place and not pinned and not device.simulated:
        remarks.append("Pinned memory could not be had for all weights; copies are slower.")
    if device.simulated:
        remarks.append("This is a simulated device: its figures are those it was given.")
    return BenchResult(
        device="simulated" if device.simulated else str(device.torch_device),
        device_name=device.name,
        torch_version=str(torch.__version__),
        precision=str(tokens.dtype).removeprefix("torch."),
        blocks=len(sizes),
        block_bytes=sizes[0],
        tokens=shape.tokens,
        compute_step_s=compute_s,
        compute_flops=shape.step_flops / compute_s,
        copy_bytes_per_s=copy_speed,
        pinned=pinned,
        slots_bytes=slots_bytes,
        streamed_step_s=streamed_s,
        predicted_step_s=predicted_s,
        achieved_bytes_per_s=None if streaming is None else streaming.bytes_per_s,
        hidden_share=None if streaming is None else streaming.hidden_share,
        seconds=device.clock_s() - began_s,
        remarks=tuple(remarks),
    )


def _place(residence: Residence, sizes: list[int], *, streamed: bool) -> None:
    """Have all blocks on the device, or all of them stream."""
    weights_bytes = sum(sizes)
    slots_bytes = min(weights_bytes, SLOTS * max(sizes)) if streamed else 0
    residence.follow(
        ComponentPlan(
            name=_NAME,
            precision=Precision.BF16,
            placement=Placement.STREAMED if streamed else Placement.RESIDENT,
            weights_bytes=weights_bytes,
            device_bytes=slots_bytes if streamed else weights_bytes,
            streamed_blocks=tuple(range(len(sizes))) if streamed else (),
            slots_bytes=slots_bytes,
        )
    )
    residence.active = True
    residence.leave()
    residence.enter()


def _step_seconds(
    device: ComputeDevice,
    step: Callable[[], None],
    *,
    transfers: Transfers | None = None,
) -> tuple[float, Streaming | None]:
    """Time of a step in a long row of them, and what was copied in it."""
    for _ in range(WARM_UP_STEPS):
        step()
    device.synchronize()
    if transfers is not None:
        transfers.take_times()
    began_s = device.clock_s()
    steps = 0
    while steps == 0 or (device.clock_s() - began_s < MIN_SECONDS and steps < MAX_STEPS):
        step()
        steps += 1
        # So that the host's clock is the device's; a step is long against what this costs.
        device.synchronize()
    seconds = (device.clock_s() - began_s) / steps
    if transfers is None:
        return seconds, None
    times = transfers.take_times()
    return seconds, Streaming(
        streamed_bytes=times.copied_bytes, copying_s=times.copying_s, waited_s=times.waited_s
    )


def _copy_bytes_per_s(device: ComputeDevice, host: HostNetwork) -> float:
    """Blocks from the host one after the other, with nothing beside them."""
    transfers = device.transfers
    packed = [block.packed() for block in host.blocks]
    sources = [one for one in packed if one is not None]
    target = transfers.allocate(sources[0].numel())
    try:
        for source in sources[:WARM_UP_STEPS]:
            transfers.wait_on_host(transfers.copy(target, source, None))
        transfers.take_times()
        began_s = device.clock_s()
        mark = None
        for number in range(COPIES):
            mark = transfers.copy(target, sources[number % len(sources)], None)
        if mark is not None:
            transfers.wait_on_host(mark)
        busy_s = transfers.take_times().copying_s or device.clock_s() - began_s
    finally:
        transfers.release(target)
    return COPIES * target.numel() / busy_s

"""How long a step takes in diffusers' offload modes, by the rules of its own code.

Read in diffusers 0.42.1 and accelerate 1.x; each rule says where. Nothing here was measured on a
GPU. What favours diffusers where its code leaves it open: allocations, hooks and launches cost
nothing, and the device never waits for the host but where the code says so.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from app.core.policy import Precision
from app.engine.planning.components import TRANSFORMER
from bench.residency_parts.cases import (
    GROUP,
    GROUP_BLOCKING,
    GROUP_LOW,
    GROUP_RECORD,
    MODEL,
    RESIDENT,
    SEQUENTIAL,
)
from bench.residency_parts.work import coefficients_of, weights_of

RULES = {
    RESIDENT: "All weights on the card: a step is what it computes.",
    MODEL: (
        "The whole transformer comes by one `module.to(device)` from ordinary RAM before its first "
        "step (accelerate hooks.py, CpuOffload.pre_forward), and is there for all steps. So a step "
        "is what it computes, and the card must hold all of it."
    ),
    SEQUENTIAL: (
        "Before each leaf computes, its weights are copied from ordinary RAM, tensor by tensor, in "
        "the stream that computes, and dropped after it (accelerate hooks.py, "
        "AlignDevicesHook.pre_forward and post_forward; set_module_tensor_to_device without "
        "non_blocking). Nothing overlaps: computing and copying add up."
    ),
    GROUP_BLOCKING: (
        "Before each block its weights are copied from ordinary RAM, and after it they are copied "
        "back to RAM by `module.to(cpu)` (diffusers hooks/group_offloading.py, "
        "_offload_to_memory without a stream). Nothing overlaps, and all is copied twice."
    ),
    GROUP: (
        "Before a block computes, the host waits for its copy and begins the copy of the next "
        "from pinned RAM on a side stream (GroupOffloadingHook.pre_forward, _onload_from_memory: "
        "stream.synchronize); after it the host waits until it has computed (_offload_to_memory: "
        "current_stream().synchronize). So one copy overlaps with one block. What the network has "
        "besides its blocks has no stream (unmatched_group: stream=None): it comes from ordinary "
        "RAM and goes back there in every step."
    ),
    GROUP_RECORD: (
        "As before without the wait after a block. Copies run ahead of computing, block after "
        "block, until the allocator finds no room; then it waits for all that was told to compute "
        "(its events of record_stream). The card fills up to its cap."
    ),
    GROUP_LOW: (
        "As the first, but the RAM is not pinned: before each copy the host pins a new copy of the "
        "block, tensor by tensor (_pinned_memory_tensors), while the device waits."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Of the card and its link.

    Attributes:
        bytes_per_s: From pinned RAM.
        pageable_bytes_per_s: From ordinary RAM, and back to it.
        pinning_bytes_per_s: Of a copy into RAM that is pinned anew.
    """

    bytes_per_s: float
    pageable_bytes_per_s: float
    pinning_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Of one step.

    Attributes:
        compute_s: Of each block.
        rest_s: Of what is computed besides.
        block_bytes: Of each block.
        rest_bytes: Besides the blocks.
    """

    compute_s: Sequence[float]
    rest_s: float
    block_bytes: Sequence[int]
    rest_bytes: int


def step_seconds_of(mode: str, work: Work, speeds: Speeds, *, room_bytes: int) -> float:
    """One step in a row of them.

    Args:
        mode: Of `RULES`.
        work: Of the step.
        speeds: Of the card.
        room_bytes: For blocks, in the mode that fills the card.
    """
    computing_s = sum(work.compute_s) + work.rest_s
    weights_bytes = sum(work.block_bytes) + work.rest_bytes
    if mode in (RESIDENT, MODEL):
        return computing_s
    if mode == SEQUENTIAL:
        return computing_s + weights_bytes / speeds.pageable_bytes_per_s
    if mode == GROUP_BLOCKING:
        return computing_s + 2 * weights_bytes / speeds.pageable_bytes_per_s
    return _group_step(mode, work, speeds, room_bytes)


def _group_step(mode: str, work: Work, speeds: Speeds, room_bytes: int) -> float:
    """The host's clock, the link's and the computing one's, for one step from rest to rest."""
    turn_s = work.rest_bytes / speeds.pageable_bytes_per_s
    host_s = turn_s
    computed_s = host_s + work.rest_s
    count = len(work.block_bytes)
    copied: list[float] = []
    ended: list[float] = []

    def begin_copy(index: int, host_s: float) -> float:
        """The host goes on at the time that is returned."""
        size = work.block_bytes[index]
        if mode == GROUP_LOW:
            host_s += size / speeds.pinning_bytes_per_s
        if mode == GROUP_RECORD and _held(work, copied, ended, host_s) + size > room_bytes:
            # The allocator waits for the events of all that was told to compute.
            host_s = max(host_s, ended[-1] if ended else computed_s)
        link_free_s = copied[-1] if copied else 0.0
        copied.append(max(host_s, link_free_s) + size / speeds.bytes_per_s)
        return host_s

    host_s = begin_copy(0, host_s)
    for index in range(count):
        host_s = max(host_s, copied[index])
        if index + 1 < count:
            host_s = begin_copy(index + 1, host_s)
        computed_s = max(computed_s, host_s) + work.compute_s[index]
        ended.append(computed_s)
        if mode != GROUP_RECORD:
            host_s = computed_s
    return max(host_s, computed_s) + turn_s


def _held(work: Work, copied: Sequence[float], ended: Sequence[float], at_s: float) -> int:
    """Bytes of blocks that were sent for and have not computed."""
    done = sum(1 for end_s in ended if end_s <= at_s)
    return sum(work.block_bytes[done : len(copied)])


def device_weights_bytes(mode: str, model: str, precision: str) -> int:
    """The least of a mode's weights on the card at once.

    Streams hold two blocks that follow each other; without a stream, the larger one.
    """
    rest_bytes, blocks = weights_of(model, precision)
    if mode in (RESIDENT, MODEL):
        return rest_bytes + sum(blocks)
    if mode == SEQUENTIAL:
        network = coefficients_of(model).networks[TRANSFORMER]
        others = max((size for size, _count in network.outside.others), default=0)
        # Sequential mode is only for bf16: buffers, as quantized layers have them, stay.
        return 2 * max(network.largest_matrix(), others)
    if mode == GROUP_BLOCKING:
        return rest_bytes + max(blocks)
    return rest_bytes + max(sum(pair) for pair in itertools.pairwise(blocks))


def host_bytes(mode: str, model: str, precision: str) -> int:
    """RAM for a mode's weights.

    Pinned tensor by tensor, each takes the next power of two (torch's CachingHostAllocator).
    """
    rest_bytes, blocks = weights_of(model, precision)
    if mode not in (GROUP, GROUP_RECORD):
        return rest_bytes + sum(blocks)
    network = coefficients_of(model).networks[TRANSFORMER]
    kinds = [_pinned_bytes(kind.matrices, kind.others, precision) for kind in network.kinds]
    return rest_bytes + sum(kinds[kind] for kind in network.blocks)


def _pinned_bytes(
    matrices: Sequence[tuple[int, int, int]], others: Sequence[tuple[int, int]], precision: str
) -> int:
    total = sum(count * _power_of_two(2 * size) for size, count in others)
    for rows, columns, count in matrices:
        weights = rows * columns
        if precision == Precision.BF16.value:
            total += count * _power_of_two(2 * weights)
        elif precision == Precision.NF4.value:
            total += count * (_power_of_two(weights // 2) + _power_of_two(weights // 16))
        else:
            total += count * (_power_of_two(weights) + _power_of_two(4 * rows))
    return total


def _power_of_two(size_bytes: int) -> int:
    return 1 << max(0, size_bytes - 1).bit_length()

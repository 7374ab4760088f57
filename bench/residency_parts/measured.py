"""The cases as they run in a process of their own."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.residence import Residence
from app.engine.residency.timeline import step_seconds
from bench.residency_parts.cases import (
    FILE,
    FLOORS,
    GROUP,
    GROUP_BLOCKING,
    GROUP_LOW,
    GROUP_RECORD,
    HEADROOM,
    LEAST,
    MODEL,
    RESIDENT,
    SEQUENTIAL,
    Case,
)
from bench.residency_parts.meters import RamMeter, timed_steps
from bench.residency_parts.networks import (
    RandomWeights,
    host_network,
    shared_network,
    step_inputs,
    whole_network,
)
from bench.residency_parts.places import Place, place_of
from bench.residency_parts.planned import plan_case
from bench.residency_parts.rows import (
    DOES_NOT_FIT,
    NOT_HERE,
    OK,
    OUT_OF_MEMORY,
    OUT_OF_RAM,
    Row,
    new_row,
)
from bench.residency_parts.stored import stored_network
from bench.residency_parts.work import weights_of

COPY_BYTES = {"cuda": 1 << 28, "cpu": 1 << 24}
COPIES = 16
GROUP_OPTIONS: dict[str, dict[str, bool]] = {
    GROUP: {"use_stream": True},
    GROUP_RECORD: {"use_stream": True, "record_stream": True},
    GROUP_LOW: {"use_stream": True, "low_cpu_mem_usage": True},
    GROUP_BLOCKING: {},
}


def measure(case: Case) -> Row:
    """Run one case; what the device or the computer cannot do is a row, too."""
    rest_bytes, blocks = weights_of(case.model, case.precision)
    weights_bytes = rest_bytes + sum(blocks)
    few = case.mode in (FLOORS, FILE)
    needed = 8 * max(blocks) + rest_bytes if few else weights_bytes + 2 * max(blocks)
    if psutil.virtual_memory().available < needed:
        return new_row(case, OUT_OF_RAM, note=f"{needed / 1e9:.1f} GB of RAM are needed")
    try:
        return _measure(case)
    except torch.OutOfMemoryError as error:
        return new_row(case, OUT_OF_MEMORY, note=str(error).partition("\n")[0])
    except MemoryError:
        return new_row(case, OUT_OF_RAM)


def _measure(case: Case) -> Row:
    if case.mode == FLOORS:
        return _floors(case)
    if case.mode in (HEADROOM, LEAST):
        return _headroom(case)
    if case.mode == FILE:
        return _from_file(case)
    return _diffusers(case)


def _floors(case: Case) -> Row:
    """Computing alone, and copying alone.

    All blocks of a kind use one block's weights, so that computing needs no room for all.
    """
    place = place_of(case.device, None)
    weights = RandomWeights(case.precision, place.device)
    network = shared_network(case.model, weights)
    network.to(place.device)
    inputs = step_inputs(case.model, case.size_px, place.device)
    timed = timed_steps(lambda: network(**inputs)[0], place, case.steps)
    return new_row(
        case,
        OK,
        step_s=timed["step_s"],
        compute_s=timed["step_s"],
        bytes_per_s=copy_bytes_per_s(place),
        context_bytes=place.context_bytes,
    )


def copy_bytes_per_s(place: Place) -> float:
    """Of copies from RAM as weights are kept there."""
    transfers = place.transfers
    size_bytes = COPY_BYTES[place.device.type]
    source, _tier = place.host_buffer(size_bytes)
    source.fill_(1)
    target = transfers.allocate(size_bytes)
    mark = transfers.copy(target, source, None)
    transfers.wait_on_host(mark)
    place.synchronize()
    began_s = time.perf_counter()
    for _ in range(COPIES):
        mark = transfers.copy(target, source, None)
    transfers.wait_on_host(mark)
    place.synchronize()
    seconds = time.perf_counter() - began_s
    transfers.release(target)
    return COPIES * size_bytes / seconds


def _from_file(case: Case) -> Row:
    """As the planner has it, from a folder that is gone afterwards."""
    rest_bytes, blocks = weights_of(case.model, case.precision)
    with tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
        needed = rest_bytes + sum(blocks)
        if shutil.disk_usage(folder).free < needed:
            return new_row(case, NOT_HERE, note=f"{needed / 1e9:.1f} GB of disk are needed")
        return _headroom(case, Path(folder) / "blocks.bin")


def _headroom(case: Case, file: Path | None = None) -> Row:
    place = place_of(case.device, case.cap_bytes)
    planned = plan_case(case)
    if isinstance(planned, str):
        return new_row(case, DOES_NOT_FIT, note=planned)
    meter = RamMeter(place.device)
    weights = RandomWeights(case.precision, place.device)
    if file is None:
        host = host_network(case.model, weights, place.host_buffer)
    else:
        host = stored_network(case.model, weights, place.host_buffer, file)
    inputs = step_inputs(case.model, case.size_px, place.device)
    place.reset_peak()
    residence = Residence(host, place.transfers)
    residence.follow(planned.component)
    residence.active = True
    residence.leave()

    def step() -> torch.Tensor:
        residence.enter()
        return host.network(**inputs)[0]

    timed = timed_steps(step, place, case.steps)
    held = residence.resident_bytes() + residence.slots_bytes()
    component = planned.component
    row = new_row(
        case,
        OK,
        **timed,
        **_peaks(place),
        context_bytes=place.context_bytes,
        ram_bytes=meter.stop(),
        weights_bytes=host.size_bytes,
        device_weights_bytes=held,
        slots_bytes=residence.slots_bytes(),
        planned_vram_bytes=planned.peak_bytes,
        predicted_s=_predicted_s(case, host, planned.component.streamed_blocks, residence),
        accounted=(
            held == component.device_bytes
            and host.size_bytes == component.weights_bytes
            and timed["streamed_bytes"] == planned.streamed_bytes
        ),
        tier=_tier_of(host),
    )
    residence.forget()
    return row


def _predicted_s(
    case: Case, host: HostNetwork, streamed: tuple[int, ...], residence: Residence
) -> float | None:
    if not case.compute_s or not case.bytes_per_s:
        return None
    if not streamed:
        return case.compute_s
    sizes = [block.layout.size_bytes for block in host.blocks]
    each_s = [case.compute_s / len(sizes)] * len(sizes)
    return step_seconds(each_s, sizes, streamed, residence.slots_bytes(), case.bytes_per_s).seconds


def _tier_of(host: HostNetwork) -> str:
    if all(block.tier is HostTier.FILE for block in host.blocks):
        return "all blocks in a file"
    pinned = sum(block.tier is HostTier.PINNED for block in host.blocks)
    return f"{pinned} of {len(host.blocks)} blocks pinned"


def _diffusers(case: Case) -> Row:
    place = place_of(case.device, case.cap_bytes)
    if case.mode == SEQUENTIAL and case.precision != "bf16":
        note = "accelerate leaves the buffers of quantized layers on the card: nothing is offloaded"
        return new_row(case, NOT_HERE, note=note)
    meter = RamMeter(place.device)
    network = whole_network(case.model, RandomWeights(case.precision, place.device))
    weights_bytes = ModuleTensors(network).layout.size_bytes
    inputs = step_inputs(case.model, case.size_px, place.device)
    place.reset_peak()
    try:
        _offload(case, network, place)
        timed = timed_steps(lambda: network(**inputs)[0], place, case.steps)
    except (TypeError, ValueError) as error:
        meter.stop()
        # What the libraries do not do with the CPU in the place of a GPU is no fault of the case.
        if case.device != "cpu":
            raise
        return new_row(case, NOT_HERE, note=f"diffusers on the CPU: {error}"[:200])
    timed["streamed_bytes"] = 0 if case.mode in (RESIDENT, MODEL) else weights_bytes
    return new_row(
        case,
        OK,
        **timed,
        **_peaks(place),
        context_bytes=place.context_bytes,
        ram_bytes=meter.stop(),
        weights_bytes=weights_bytes,
    )


def _offload(case: Case, network: Any, place: Place) -> None:  # noqa: ANN401 - untyped library
    """By the pipelines' own methods, as their users call them.

    Raises:
        ValueError: The mode does not run on this device.
    """
    if case.mode == RESIDENT:
        network.to(place.device)
        return
    make: Any = Flux2KleinPipeline
    pipeline = make(
        scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=network
    )
    if case.mode == MODEL:
        pipeline.enable_model_cpu_offload(device=place.device)
    elif case.mode == SEQUENTIAL:
        pipeline.enable_sequential_cpu_offload(device=place.device)
    else:
        network.enable_group_offload(
            onload_device=place.device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            **GROUP_OPTIONS[case.mode],
        )


def _peaks(place: Place) -> dict[str, Any]:
    allocated, reserved = place.peak_bytes()
    return {"peak_vram_bytes": allocated, "reserved_vram_bytes": reserved}

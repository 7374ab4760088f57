"""A bf16 checkpoint quantized from the disk, loaded, opened again: how far from the disk's speed.

The checkpoint has the layout and the sizes of the real one, and random weights. It is read cold.
"""

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch

from app.core.policy import Precision
from app.engine.quantize.converting import Conversion, open_converted
from app.engine.quantize.file_layout import Group, lay_out_file
from app.engine.quantize.linear import empty_linear
from app.engine.quantize.recipe import Recipe
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_store import HostStore
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.pinning import CudaRegistrar, Pinning
from app.engine.stored_weights import MappedFiles, stored_tensors
from bench.residency_parts.disk import both_seconds, forget, read_seconds, write_seconds
from bench.residency_parts.meters import RamMeter
from bench.residency_parts.networks import NAME, RandomWeights, blocks_of, meta_network
from bench.residency_parts.work import weights_of

Figures = dict[str, Any]
SPARE_BYTES = 4 << 30
"""Of the disk, left alone."""
PRECISIONS = ("fp8", "int8", "nf4")


def measure_convert(
    model: str, precisions: Sequence[str], device: str, folder: Path | None = None
) -> Iterator[Figures]:
    """One set of figures for each precision; what the disk has no room for says so.

    Args:
        model: Whose transformer it is.
        precisions: To quantize to.
        device: To quantize on, "cpu" or "cuda".
        folder: On the disk to measure; None is that for temporary files.
    """
    rest_bytes, blocks = weights_of(model, "bf16")
    source_bytes = rest_bytes + sum(blocks)
    with tempfile.TemporaryDirectory(prefix="headroom-bench-", dir=folder) as name:
        needed = 2 * source_bytes + SPARE_BYTES
        if shutil.disk_usage(name).free < needed:
            yield {"model": model, "note": f"{needed / 1e9:.1f} GB of disk are needed"}
            return
        source = Path(name) / "diffusion_pytorch_model.safetensors"
        write_checkpoint(model, source)
        for precision in precisions:
            # In a process of its own, so that the RAM is its own, too.
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                figures = pool.submit(_convert, model, precision, device, source).result()
            yield {"model": model, "precision": precision, "device": device, **figures}


def write_checkpoint(model: str, path: Path) -> None:
    """The transformer in bf16, block by block."""
    weights = RandomWeights("bf16", torch.device("cpu"))
    network = meta_network(model)
    modules = [(block, prefix) for block, prefix in blocks_of(network)]
    blocks = streamable_blocks(NAME, network)
    layouts = [(network, "", ModuleTensors(network, without=blocks).layout)]
    layouts += [(block, prefix, ModuleTensors(block).layout) for block, prefix in modules]
    groups = [Group(prefix=prefix, layout=layout) for _module, prefix, layout in layouts]
    file_layout = lay_out_file(groups, {})
    with path.open("wb") as file:
        file.write(file_layout.header({}))
        for module, prefix, layout in layouts:
            weights.fill(module, prefix, without=blocks if module is network else ())
            tensors = dict(module.named_parameters())
            for span in layout.spans:
                file.seek(file_layout.places[f"{prefix}{span.name}"])
                numbers: Any = tensors[span.name].detach().view(-1).view(torch.uint8).numpy()
                file.write(memoryview(numbers))
            if module is not network:
                module.to("meta")


def _convert(model: str, precision: str, device: str, source: Path) -> Figures:
    torch_device = torch.device(device)
    folder = source.parent / precision
    conversion = Conversion(
        recipe=Recipe(precision=Precision(precision)), folder=folder, device=torch_device
    )
    _warm_up(conversion)
    stored = stored_tensors([source])
    cold = forget(source)
    meter = RamMeter(torch_device)
    system_cpu_s = _system_cpu_s()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    network = meta_network(model)
    converted = open_converted(NAME, network, stored, conversion)
    convert_s = time.perf_counter() - began_s
    convert_cpu_s = time.process_time() - began_cpu_s
    others_cpu_s = _system_cpu_s() - system_cpu_s - convert_cpu_s
    convert_ram_bytes = meter.stop()
    (target,) = folder.glob("*.safetensors")
    figures: Figures = {
        "cold": cold,
        "source_bytes": source.stat().st_size,
        "converted_bytes": target.stat().st_size,
        "largest_block_bytes": max(weights_of(model, "bf16")[1]),
        "convert_s": convert_s,
        "convert_cpu_s": convert_cpu_s,
        "others_cpu_s": max(0.0, others_cpu_s),
        "convert_ram_bytes": convert_ram_bytes,
        **_load(network, converted, torch_device),
    }
    figures["reopen_s"] = _reopen(model, stored, conversion, target)
    folder_of_floors = folder / "floor.bin"
    forget(source)
    figures["read_s"] = read_seconds(source)
    figures["write_s"] = write_seconds(folder_of_floors, figures["converted_bytes"])
    forget(source)
    figures["disk_s"] = both_seconds(source, folder_of_floors, figures["converted_bytes"])
    shutil.rmtree(folder)
    return figures


def _warm_up(conversion: Conversion) -> None:
    """Load what the first conversion of a process loads: libraries, and a GPU's kernels."""
    linear = torch.nn.Linear(256, 256, device="meta", dtype=torch.bfloat16)
    layer = empty_linear(linear, conversion.recipe)
    layer.encode_all(torch.randn(256, 256).bfloat16(), conversion.device)


def _system_cpu_s() -> float:
    """Of all processes, on all cores."""
    times = psutil.cpu_times()
    return float(times.user + times.system)


def _load(network: torch.nn.Module, converted: Any, device: torch.device) -> Figures:  # noqa: ANN401
    """Into RAM, as for a device that copies from there; locked where there is a GPU."""
    needed = sum(tensor.nbytes for tensor in converted.values())
    if psutil.virtual_memory().available < 1.2 * needed:
        return {"load_s": None, "load_note": f"{needed / 1e9:.1f} GB of RAM are needed"}
    pinning = Pinning(CudaRegistrar(device)) if device.type == "cuda" else None
    meter = RamMeter(device)
    began_s = time.perf_counter()
    store = HostStore(pinning)
    host = store.open(NAME, network, converted)
    store.pin([host])
    load_s = time.perf_counter() - began_s
    ram_bytes = meter.stop()
    return {"load_s": load_s, "load_ram_bytes": ram_bytes, "kept_bytes": host.size_bytes}


def _reopen(model: str, stored: Any, conversion: Conversion, target: Path) -> float:  # noqa: ANN401
    """Until every tensor is mapped, with nothing of the file in RAM."""
    forget(target)
    began_s = time.perf_counter()
    network = meta_network(model)
    opened = open_converted(NAME, network, stored, conversion)
    files = MappedFiles()
    mapped = [files.tensor(tensor) for tensor in opened.values()]
    seconds = time.perf_counter() - began_s
    del mapped
    return seconds

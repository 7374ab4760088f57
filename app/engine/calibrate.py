"""How fast this machine computes and copies: a few seconds of real work in the engine process.

Matrix products of the size of a transformer block, in the precision that runs use; copies to the
device as streamed weights take them; and reading weights. The GPU's part was not tried on a real
GPU yet; it is torch's ordinary interface.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from app.core.errors import describe
from app.core.events import CalibrationDone
from app.core.machine_speeds import MachineSpeeds
from app.engine.compute_device import ComputeDevice
from app.engine.devices import (
    device_name,
    free_bytes,
    release_cached_memory,
    release_host_cache,
    run_dtype,
    synchronize,
)
from app.engine.disk_speed import measure_disk
from app.engine.protocol import Calibrate
from app.engine.vram_limit import keep_in_vram

log = logging.getLogger(__name__)

GPU_PRODUCT = (4608, 3072, 12288)
"""Tokens of a 1024 px image with its prompt, through the wide layer of a klein block."""
CPU_PRODUCT = (512, 1024, 4096)
COPY_BYTES = 256 << 20
WARM_UP_RUNS = 3
MIN_SECONDS = 0.5
MAX_SECONDS = 2.0
MIN_BATCHES = 5


def calibrate(device: ComputeDevice, command: Calibrate) -> CalibrationDone:
    """Measure everything and say what was found, or why it was not."""
    try:
        # Speeds of what Windows has moved to RAM would be taken for the GPU's.
        keep_in_vram(device)
        return CalibrationDone(speeds=measure_machine(device.torch_device, command))
    # RuntimeError: torch's, for memory that is not there and for faults of a driver.
    except (RuntimeError, OSError, MemoryError) as error:
        log.exception("the calibration failed")
        return CalibrationDone(error=describe(error))
    finally:
        _release(device.torch_device)


def _release(device: torch.device) -> None:
    """Give back what the measurements took, pinned memory too: an engine lives for long."""
    release_cached_memory(device)
    release_host_cache(device)


def measure_machine(device: torch.device, command: Calibrate) -> MachineSpeeds:
    """Measure everything; takes a few seconds.

    Raises:
        RuntimeError: The device has no memory left for it, or fails.
    """
    start_s = time.perf_counter()
    # Weights are kept in bf16 where it matters; on the CPU runs are as stored, which may be fp32.
    dtype = run_dtype(device, torch.float32)
    flops = _product_flops(device, dtype)
    remarks: list[str] = []
    pinned = pageable = None
    if device.type != "cpu":
        pageable = _copy_bytes_per_s(torch.empty(_copy_size(device), dtype=torch.uint8), device)
        pinned = _pinned_bytes_per_s(device, remarks)
    folders = tuple(Path(folder) for folder in command.model_folders)
    disk = measure_disk(folders, Path(command.scratch_folder))
    remarks.append(disk.remark)
    release_cached_memory(device)
    return MachineSpeeds(
        device=str(device),
        device_name=device_name(device),
        torch_version=str(torch.__version__),
        precision=str(dtype).removeprefix("torch."),
        compute_flops=flops,
        pinned_bytes_per_s=pinned,
        pageable_bytes_per_s=pageable,
        read_bytes_per_s=disk.bytes_per_s,
        reserved_bytes=_reserved_bytes(device),
        seconds=time.perf_counter() - start_s,
        remarks=tuple(remarks),
    )


def _product_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of matrix products, as a long run reaches them."""
    rows, inner, columns = CPU_PRODUCT if device.type == "cpu" else GPU_PRODUCT
    # Random and not zeros: processors do zeros faster than pictures.
    left = torch.randn(rows, inner, dtype=dtype, device=device)
    right = torch.randn(inner, columns, dtype=dtype, device=device)
    result = torch.empty(rows, columns, dtype=dtype, device=device)
    with torch.inference_mode():
        seconds = _typical_seconds(lambda: torch.mm(left, right, out=result), device)
    return 2.0 * rows * inner * columns / seconds


def _copy_bytes_per_s(host: torch.Tensor, device: torch.device) -> float:
    """Bytes per second from host memory to the device."""
    host.fill_(1)  # Memory that was never written has no pages to copy from.
    target = torch.empty_like(host, device=device)
    seconds = _typical_seconds(lambda: target.copy_(host, non_blocking=True), device)
    return host.numel() / seconds


def _pinned_bytes_per_s(device: torch.device, remarks: list[str]) -> float | None:
    try:
        host = torch.empty(_copy_size(device), dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        log.info("no pinned memory: %s", error)
        remarks.append("Pinned memory could not be had; copies to the GPU will be slower.")
        return None
    return _copy_bytes_per_s(host, device)


def _copy_size(device: torch.device) -> int:
    return min(COPY_BYTES, max(1 << 20, free_bytes(device) // 4))


def _typical_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time that `work` takes when it is repeated: the middle of some batches."""
    for _run in range(WARM_UP_RUNS):
        work()
    synchronize(device)
    batches: list[float] = []
    runs = 1
    total_s = 0.0
    while not batches or (
        total_s < MAX_SECONDS and (total_s < MIN_SECONDS or len(batches) < MIN_BATCHES)
    ):
        start_s = time.perf_counter()
        for _run in range(runs):
            work()
        synchronize(device)
        seconds = time.perf_counter() - start_s
        total_s += seconds
        if seconds < MIN_SECONDS / (4 * MIN_BATCHES):
            runs *= 2  # Too short to time: the launch and the clock would count.
        else:
            batches.append(seconds / runs)
    return sorted(batches)[len(batches) // 2]


def _reserved_bytes(device: torch.device) -> int | None:
    if device.type == "cpu":
        return None
    backend: Any = torch.cuda if device.type == "cuda" else torch.xpu
    return int(backend.memory_reserved(device))

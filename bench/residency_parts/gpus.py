"""GPU classes of the modelled table, and what is assumed of them. Nothing here was measured.

Peaks: dense bf16 products with fp32 sums from the vendors' data sheets, as the planner has them
(`app.engine.overheads`). A step is taken to reach 65 % of it, which is an assumption, too. Products
in fp8 run at twice that on compute capability 8.9 and later, products in int8 on all of these: see
`SOURCES`. Elsewhere weights become bf16 in the block, as those of 4 bits always do, and the product
is bf16. What quantized layers read and write beside their products (`passes`) is timed by 80 % of
the card's memory bandwidth; as in the engine, a product in 8 bits is used where it gains.
Links: 80 % of what the PCIe standard names for the card's own generation and width, from pinned
memory; from ordinary memory 6 GB/s, the middle of the 3 to 8 GB/s that are customarily seen.
"""

from dataclasses import dataclass
from typing import Any

import pynvml

from app.engine.overheads import peak_tflops
from bench.residency_parts.passes import (
    IN_FP8,
    IN_INT8,
    NF4_TURNED,
    PLAIN,
    ROWS_TURNED,
    Passes,
    bytes_around,
)

COMPUTE_SHARE = 0.65
NATIVE_FACTOR = 2
"""Of products in fp8 and int8 over those in bf16."""
MEMORY_SHARE = 0.8
SOURCES = (
    "GeForce cards do bf16 with fp32 sums at half the rate of their larger sisters, so that fp8 "
    "has twice and int8 four times as many operations as bf16: 165, 330 and 661 for the RTX 4090 "
    "(https://waredb.com/processor/nvidia-geforce-rtx-4090). A sheet of the A40, which has the "
    "RTX 3090's chip with full rates, names 150 for bf16 and 299 for int8. Here int8 is taken at "
    "twice, not four times: whole steps with another program's products in int8 took half (RTX "
    "3060) and 57 % (RTX 4070 Ti Super) of the time in bf16 "
    "(https://github.com/Haoming02/sd-webui-forge-classic/pull/651), and torch's product in int8 "
    "may run kernels of older GPUs (https://github.com/pytorch/pytorch/issues/187094)."
)
"""Looked up in copies of these pages on 2026-11-22."""
LINK_SHARE = 0.8
PAGEABLE_BYTES_PER_S = 6e9
PINNING_BYTES_PER_S = 3.1e9
"""Pinning ordinary memory anew for each copy, with the copy: 23.8 GB of blocks in 7.6 s a forward,
from the timings in https://github.com/huggingface/diffusers/pull/11106."""
PCIE_BYTES_PER_S = {"3.0 x16": 15.75e9, "4.0 x8": 15.75e9, "4.0 x16": 31.5e9, "5.0 x8": 31.5e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClass:
    """One kind of card.

    Attributes:
        name: For people.
        card_gb: As it is sold.
        link: Of `PCIE_BYTES_PER_S`.
        native_fp8: Whether it has products in fp8; all have them in int8.
        memory_bytes_per_s: Of its own memory, as the data sheet has it.
    """

    name: str
    card_gb: int
    link: str
    native_fp8: bool
    memory_bytes_per_s: float

    @property
    def flops(self) -> float:
        """That products in bf16 reach."""
        return peak_tflops(self.name) * 1e12 * COMPUTE_SHARE

    def linear_seconds(self, precision: str, flops: float, model: str, size_px: int) -> list[float]:
        """What the linear layers of each block take, in the way that is quickest.

        Args:
            precision: Of their weights.
            flops: Of the layers of a block.
            model: Which.
            size_px: Side of the picture.
        """
        ways = [
            [
                flops / (self.flops * factor) + around / (self.memory_bytes_per_s * MEMORY_SHARE)
                for around in bytes_around(model, size_px, passes)
            ]
            for factor, passes in self._ways(precision)
        ]
        return min(ways, key=sum)

    def _ways(self, precision: str) -> list[tuple[int, Passes]]:
        if precision == "bf16":
            return [(1, PLAIN)]
        if precision == "nf4":
            return [(1, NF4_TURNED)]
        native = IN_INT8 if precision == "int8" else IN_FP8
        found = [(1, ROWS_TURNED)]
        if precision == "int8" or self.native_fp8:
            found.append((NATIVE_FACTOR, native))
        return found

    @property
    def bytes_per_s(self) -> float:
        """From pinned memory."""
        return PCIE_BYTES_PER_S[self.link] * LINK_SHARE

    @property
    def pageable_bytes_per_s(self) -> float:
        """From ordinary memory."""
        return min(PAGEABLE_BYTES_PER_S, self.bytes_per_s)


def _gpu(name: str, card_gb: int, link: str, memory_gb_per_s: int, *, native_fp8: bool) -> GpuClass:
    return GpuClass(
        name=name,
        card_gb=card_gb,
        link=link,
        native_fp8=native_fp8,
        memory_bytes_per_s=memory_gb_per_s * 1e9,
    )


GPUS = (
    _gpu("RTX 4060", 8, "4.0 x8", 272, native_fp8=True),
    _gpu("RTX 3060", 12, "3.0 x16", 360, native_fp8=False),
    _gpu("RTX 4070", 12, "4.0 x16", 504, native_fp8=True),
    _gpu("RTX 5060 Ti", 16, "5.0 x8", 448, native_fp8=True),
    _gpu("RTX 3090", 24, "4.0 x16", 936, native_fp8=False),
    _gpu("RTX 4090", 24, "4.0 x16", 1008, native_fp8=True),
)


def assumptions() -> dict[str, Any]:
    """What the modelled table rests on, for its result file."""
    return {
        "compute_share": COMPUTE_SHARE,
        "native_factor": NATIVE_FACTOR,
        "memory_share": MEMORY_SHARE,
        "sources": SOURCES,
        "link_share": LINK_SHARE,
        "pageable_bytes_per_s": PAGEABLE_BYTES_PER_S,
        "pinning_bytes_per_s": PINNING_BYTES_PER_S,
        "gpus": [
            {
                "name": gpu.name,
                "card_gb": gpu.card_gb,
                "bf16_peak_tflops": peak_tflops(gpu.name),
                "link": gpu.link,
                "link_bytes_per_s": PCIE_BYTES_PER_S[gpu.link],
                "native_fp8": gpu.native_fp8,
                "memory_bytes_per_s": gpu.memory_bytes_per_s,
            }
            for gpu in GPUS
        ],
    }


def gpu_here() -> str | None:
    """The name of this machine's first NVIDIA GPU, or None."""
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0)))
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()

"""GPU classes of the modelled table, and what is assumed of them. Nothing here was measured.

Peaks: dense bf16 products with fp32 sums from the vendors' data sheets, as the planner has them
(`app.engine.overheads`). A step is taken to reach 65 % of it, which is an assumption, too. Products
in fp8 run at twice that on compute capability 8.9 and later; where a GPU cannot, weights become
bf16 in the block and the product is bf16. The gain of int8 products is left out: it is modelled as
fp8 is where the GPU has both, and as bf16 elsewhere. 4-bit weights always become bf16.
Links: 80 % of what the PCIe standard names for the card's own generation and width, from pinned
memory; from ordinary memory 6 GB/s, the middle of the 3 to 8 GB/s that are customarily seen.
"""

from dataclasses import dataclass
from typing import Any

import pynvml

from app.engine.overheads import peak_tflops

COMPUTE_SHARE = 0.65
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
        native_8bit: Whether products in fp8 run at twice the rate.
    """

    name: str
    card_gb: int
    link: str
    native_8bit: bool

    def flops(self, precision: str) -> float:
        """That the linear layers of the blocks reach."""
        doubled = self.native_8bit and precision in ("fp8", "int8")
        return peak_tflops(self.name) * 1e12 * COMPUTE_SHARE * (2 if doubled else 1)

    @property
    def bytes_per_s(self) -> float:
        """From pinned memory."""
        return PCIE_BYTES_PER_S[self.link] * LINK_SHARE

    @property
    def pageable_bytes_per_s(self) -> float:
        """From ordinary memory."""
        return min(PAGEABLE_BYTES_PER_S, self.bytes_per_s)


GPUS = (
    GpuClass(name="RTX 4060", card_gb=8, link="4.0 x8", native_8bit=True),
    GpuClass(name="RTX 3060", card_gb=12, link="3.0 x16", native_8bit=False),
    GpuClass(name="RTX 4070", card_gb=12, link="4.0 x16", native_8bit=True),
    GpuClass(name="RTX 5060 Ti", card_gb=16, link="5.0 x8", native_8bit=True),
    GpuClass(name="RTX 3090", card_gb=24, link="4.0 x16", native_8bit=False),
    GpuClass(name="RTX 4090", card_gb=24, link="4.0 x16", native_8bit=True),
)


def assumptions() -> dict[str, Any]:
    """What the modelled table rests on, for its result file."""
    return {
        "compute_share": COMPUTE_SHARE,
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
                "native_8bit": gpu.native_8bit,
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

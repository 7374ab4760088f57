"""What a GPU adds to the bytes of tensors, before anything was measured on it.

The dry run counts tensors. These are the terms it cannot see, with where their values come from;
none was checked on a real GPU here. Each run on a machine corrects them (`Calibration`).
"""

import re
from dataclasses import dataclass

from app.core.profile import Calibration
from app.core.units import MIB
from app.engine.host_memory import segments_grow


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """One term: its name, its size, and where that comes from."""

    name: str
    size_bytes: int
    source: str


CUDA_CONTEXT = Overhead(
    name="CUDA context and loaded kernels",
    size_bytes=500 * MIB,
    source="400 to 600 MB are customarily reported for torch with lazy loading; not measured here",
)
CUBLAS_WORKSPACE = Overhead(
    name="cuBLAS workspace",
    size_bytes=2 * (8192 + 128) * 1024,
    source="torch's default CUBLAS_WORKSPACE_CONFIG :4096:2:16:8, 8.1 MiB a handle and stream",
)
CUBLAS_WORKSPACE_HOPPER = Overhead(
    name="cuBLAS workspace",
    size_bytes=2 * 32 * MIB,
    source="torch takes 32 MiB a handle and stream on compute capability 9, and by now 10 and 12",
)
HIPBLAS_WORKSPACE = Overhead(
    name="hipBLAS and hipBLASLt workspaces",
    size_bytes=(32 + 76) * MIB,
    source="torch takes 32 MiB for the one and 76 MiB for the other; 128 MiB on MI300",
)
CUDNN_WORKSPACE = Overhead(
    name="cuDNN workspace",
    size_bytes=192 * MIB,
    source="convolutions of the autoencoder; an allowance, not measured",
)
XPU_CONTEXT = Overhead(
    name="Level Zero context and loaded kernels",
    size_bytes=500 * MIB,
    source="taken to be like CUDA's; not measured",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What torch's allocator holds beyond tensors: a fixed part, and a share of working memory.

    Weights are few large pieces, which leave few gaps. Both kinds are from its rules, carried out
    for plans of real size (docs/verdicts.md); they were not measured on a GPU.
    """

    fixed_bytes: int
    working_share: float


GROWING_RESERVE = Reserve(fixed_bytes=192 * MIB, working_share=0.02)
"""Segments that grow have few gaps: at most 165 MB were seen."""
SEGMENTS_RESERVE = Reserve(fixed_bytes=128 * MIB, working_share=0.40)
"""Segments that cannot grow are splintered by working memory: 13 to 40 % of it were seen.

Once it was 48 %, where tensors took 10 % more than forecast; with that 6 GB would not do 2048 px.
What weights of two components that take turns may leave is not in it (docs/verdicts.md).
"""
_CPU_RESERVE_SHARE = 0.08
_CPU_WORKSPACE_BYTES = 64 * MIB
_CPU_FLOPS = 5e10
_CPU_COPY_BYTES_PER_S = 1e10
_READ_BYTES_PER_S = 1.5e9
"""A SATA or cheap NVMe disk; file caches are faster."""
_MATRIX_SHARE = 0.5
"""Of the vendor's peak that a transformer step is taken to reach."""
_UNKNOWN_TFLOPS = 20.0
_DEFAULT_COPY_BYTES_PER_S = 1e10
"""PCIe 3.0 x16 or 4.0 x8 from pinned memory; slower than most, so that times are no promise."""

_HOPPER_OR_LATER = re.compile(
    r"\bG?[HB][123]00\b|\bH(20|800)\b|\bRTX 50[5-9]0\b|\bBlackwell\b", re.IGNORECASE
)

_PEAK_TFLOPS: tuple[tuple[str, float], ...] = (
    # Dense bf16 with fp32 sums, from the vendors' data sheets; the first name that fits counts.
    ("h200", 989),
    ("h100", 989),
    ("b200", 2250),
    ("a100", 312),
    ("l40", 181),
    ("a6000", 155),
    ("rtx 5090", 209),
    ("rtx 5080", 113),
    ("rtx 5070 ti", 88),
    ("rtx 5070", 62),
    ("rtx 5060 ti", 47),
    ("rtx 5060", 38),
    ("rtx 4090", 165),
    ("rtx 4080", 97),
    ("rtx 4070 ti", 80),
    ("rtx 4070", 58),
    ("rtx 4060 ti", 44),
    ("rtx 4060", 30),
    ("rtx 3090", 71),
    ("rtx 3080", 60),
    ("rtx 3070", 41),
    ("rtx 3060", 25.6),
    ("rtx 3050", 18),
    ("rtx 2080", 45),
    ("rtx 2070", 30),
    ("rtx 2060", 26),
    ("7900 xtx", 123),
    ("7900 xt", 103),
    ("7800 xt", 75),
    ("7600", 43),
    ("9070 xt", 195),
    ("9070", 145),
    ("mi300", 1307),
    ("b580", 117),
    ("b570", 101),
    ("a770", 138),
    ("a750", 117),
)


def overheads(kind: str, name: str) -> tuple[Overhead, ...]:
    """The terms for a device, largest first; none for the CPU.

    Args:
        kind: "cuda", "rocm", "xpu" or "cpu".
        name: The device's, as the driver says it.
    """
    if kind == "cpu":
        return ()
    if kind == "xpu":
        return (XPU_CONTEXT, CUDNN_WORKSPACE)
    if kind == "rocm":
        return (CUDA_CONTEXT, CUDNN_WORKSPACE, HIPBLAS_WORKSPACE)
    cublas = CUBLAS_WORKSPACE_HOPPER if _HOPPER_OR_LATER.search(name) else CUBLAS_WORKSPACE
    return (CUDA_CONTEXT, CUDNN_WORKSPACE, cublas)


def default_calibration(kind: str, name: str, *, growing: bool | None = None) -> Calibration:
    """What to reckon with on a device where no run was measured yet.

    Args:
        kind: "cuda", "rocm", "xpu" or "cpu".
        name: The device's, as the driver says it.
        growing: Whether the allocator's segments can grow; None is as on this computer.
    """
    if kind == "cpu":
        return Calibration(
            context_bytes=0,
            workspace_bytes=_CPU_WORKSPACE_BYTES,
            reserve_bytes=0,
            reserve_share=_CPU_RESERVE_SHARE,
            compute_flops=_CPU_FLOPS,
            copy_bytes_per_s=_CPU_COPY_BYTES_PER_S,
            read_bytes_per_s=_READ_BYTES_PER_S,
        )
    context, *workspaces = overheads(kind, name)
    growing = segments_grow(kind) if growing is None else growing
    reserve = GROWING_RESERVE if growing else SEGMENTS_RESERVE
    return Calibration(
        context_bytes=context.size_bytes,
        workspace_bytes=sum(term.size_bytes for term in workspaces),
        reserve_bytes=reserve.fixed_bytes,
        reserve_share=reserve.working_share,
        compute_flops=peak_tflops(name) * 1e12 * _MATRIX_SHARE,
        copy_bytes_per_s=_DEFAULT_COPY_BYTES_PER_S,
        read_bytes_per_s=_READ_BYTES_PER_S,
    )


def peak_tflops(name: str) -> float:
    """The vendor's figure for a GPU, a cautious one for a GPU that is not in the table."""
    lower = name.lower()
    for part, tflops in _PEAK_TFLOPS:
        if part in lower:
            # Laptop chips of the same name have fewer units and less power.
            return tflops * (0.6 if "laptop" in lower or "mobile" in lower else 1.0)
    return _UNKNOWN_TFLOPS

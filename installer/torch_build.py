"""Which PyTorch build suits a machine: a pure function of what was found in it."""

import re
from dataclasses import dataclass
from typing import Literal

TorchKind = Literal["cuda", "rocm", "xpu", "cpu"]

RUN_SETUP = "run `python -m installer setup` to use the GPU"

# Oldest driver that runs each CUDA build, newest build first. 12.x runs on every driver from 525 on
# (minor version compatibility), but Blackwell needs the driver that came with 12.8.
# https://docs.nvidia.com/deploy/cuda-compatibility/
_CUDA_DRIVERS = (("cu130", 580), ("cu128", 570), ("cu126", 525))
OLDEST_NVIDIA_DRIVER = _CUDA_DRIVERS[-1][1]

# Compute capabilities each build has kernels for, first and one past the last; from the matrix in
# PyTorch's RELEASE.md. The last builds for 12.8, those of torch 2.11, had none for Volta any more.
_CUDA_CAPABILITIES = {
    "cu130": ((7, 5), (99, 0)),
    "cu128": ((7, 5), (99, 0)),
    "cu126": ((5, 0), (10, 0)),
}
_GENERAL_CUDA = "cu130"
"""On the general package index, for Linux; it was "cu128" up to torch 2.10, for fewer drivers."""

_ROCM_INDEXES = ("rocm7.2", "rocm7.1", "rocm7.0", "rocm6.4")
# GPUs the ROCm builds have kernels for; from PyTorch's .ci/docker/manywheel/build.sh. The small
# graphics parts inside desktop processors are not among them; gfx900 and gfx906 are, but since
# ROCm 6.4 its libraries have no matrix products for them.
_ROCM_TARGETS = frozenset(
    {
        *("gfx908", "gfx90a", "gfx942", "gfx950"),
        *("gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1103"),
        *("gfx1150", "gfx1151", "gfx1200", "gfx1201"),
    }
)

_INDEX_NAME = re.compile(r"cpu|xpu|cu\d{3,}|rocm\d+(\.\d+)+")
_KIND_BY_PREFIX: tuple[tuple[str, TorchKind], ...] = (
    ("cpu", "cpu"),
    ("xpu", "xpu"),
    ("rocm", "rocm"),
    ("cu", "cuda"),
)

# PCI device ids, first and last, of Intel GPUs with matrix units or at least Xe-LPG: Arc A, Meteor
# and Arrow Lake, Lunar Lake, Arc B, Panther Lake, Data Center Max.
# https://dgpu-docs.intel.com/devices/hardware-table.html
_XPU_DEVICES = (
    (0x5690, 0x56C2),
    (0x7D40, 0x7DD5),
    (0x6420, 0x64B0),
    (0xE202, 0xE223),
    (0xB080, 0xB0FF),
    (0x0BD0, 0x0BDB),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpu:
    """A GPU as `nvidia-smi` reports it.

    Attributes:
        name: For people.
        driver: Major driver version.
        capability: Compute capability; None when the driver is too old to tell.
    """

    name: str
    driver: int
    capability: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found in the machine.

    Attributes:
        system: As in `platform.system()`.
        nvidia: GPUs with an NVIDIA driver.
        nvidia_problem: Half a sentence when there is an NVIDIA GPU, but its driver does not answer
            or is not there, with the remedy; else "".
        amd_targets: LLVM names of the GPUs that ROCm's kernel driver knows, like "gfx1100".
        has_amd_adapter: Whether Windows has a driver for an AMD GPU.
        intel_device_ids: PCI device ids of Intel graphics.
    """

    system: str
    nvidia: tuple[NvidiaGpu, ...] = ()
    nvidia_problem: str = ""
    amd_targets: tuple[str, ...] = ()
    has_amd_adapter: bool = False
    intel_device_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchChoice:
    """The build to install.

    Attributes:
        kind: What it computes on.
        indexes: Names under PyTorch's wheel index, best first.
        reason: Why, in words.
    """

    kind: TorchKind
    indexes: tuple[str, ...]
    reason: str


def choose_torch_build(machine: Machine) -> TorchChoice:
    """The fastest build that the machine can run."""
    if machine.nvidia:
        return _choose_cuda(machine.nvidia)
    if machine.system == "Linux":
        supported = [target for target in machine.amd_targets if target in _ROCM_TARGETS]
        if supported:
            return TorchChoice(
                kind="rocm", indexes=_ROCM_INDEXES, reason=f"AMD GPU {supported[0]} found"
            )
    if any(_is_xpu(device_id) for device_id in machine.intel_device_ids):
        return TorchChoice(kind="xpu", indexes=("xpu",), reason="Intel Arc graphics found")
    return _cpu(_why_cpu(machine))


def named_choice(name: str) -> TorchChoice:
    """The choice for an index named by the user.

    Raises:
        ValueError: No index can have that name.
    """
    if not _INDEX_NAME.fullmatch(name):
        raise ValueError(name)
    kind = kind_of_label(name, system="Linux")
    return TorchChoice(kind=kind, indexes=(name,), reason="asked for")


def kind_of_label(label: str, *, system: str) -> TorchKind:
    """What an installed build computes on, from its label like "cu130"; "" is the plain package."""
    for prefix, kind in _KIND_BY_PREFIX:
        if label.startswith(prefix):
            return kind
    # On the general package index the Linux build is the CUDA one, the others are for the CPU.
    return "cuda" if system == "Linux" else "cpu"


def runs_here(label: str, choice: TorchChoice, *, system: str) -> bool:
    """Whether an installed build runs on the machine a choice was made for.

    Args:
        label: Of the build, like "cu130"; "" is the plain package.
        choice: The build that suits the machine best.
        system: As in `platform.system()`.
    """
    if choice.kind == "cpu":
        # Any build works there, and the one that is there costs no download.
        return True
    if kind_of_label(label, system=system) != choice.kind:
        return False
    label = label or _GENERAL_CUDA
    # Others than these somebody has chosen on purpose.
    return label in choice.indexes or label not in _CUDA_CAPABILITIES


def _choose_cuda(gpus: tuple[NvidiaGpu, ...]) -> TorchChoice:
    # The best GPU decides; an older one beside it is then left to the display.
    best = max(gpus, key=lambda gpu: gpu.capability or (0, 0))
    if best.driver < OLDEST_NVIDIA_DRIVER:
        return _cpu(
            f"the NVIDIA driver {best.driver} is older than {OLDEST_NVIDIA_DRIVER}; update it and "
            f"{RUN_SETUP}"
        )
    indexes = tuple(
        index
        for index, oldest_driver in _CUDA_DRIVERS
        if best.driver >= oldest_driver and _has_kernels(index, best.capability)
    )
    if not indexes:
        return _cpu(
            f"no PyTorch build fits {best.name} with driver {best.driver}; update the driver and "
            f"{RUN_SETUP}"
        )
    return TorchChoice(
        kind="cuda", indexes=indexes, reason=f"{best.name} with driver {best.driver} found"
    )


def _has_kernels(index: str, capability: tuple[int, int] | None) -> bool:
    first, past_last = _CUDA_CAPABILITIES[index]
    return capability is None or first <= capability < past_last


def _is_xpu(device_id: int) -> bool:
    return any(first <= device_id <= last for first, last in _XPU_DEVICES)


def _why_cpu(machine: Machine) -> str:
    if machine.nvidia_problem:
        return machine.nvidia_problem
    if machine.amd_targets:
        return f"the AMD GPU {machine.amd_targets[0]} has no PyTorch build"
    if machine.has_amd_adapter:
        return "AMD GPUs can be used under Linux only, for which PyTorch has builds for them"
    if machine.intel_device_ids:
        return "this Intel graphics has no PyTorch build"
    return "no GPU that PyTorch can use was found"


def _cpu(reason: str) -> TorchChoice:
    return TorchChoice(kind="cpu", indexes=("cpu",), reason=reason)

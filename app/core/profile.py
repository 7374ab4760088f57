"""The machine as the planner knows it: capacities, speeds, and what runs here have shown."""

from dataclasses import dataclass, field

from app.core.jobs import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on one GPU with one driver and one torch; defaults where nothing was.

    Attributes:
        context_bytes: Of the process on the device before any tensor (CUDA context, modules).
        workspace_bytes: Of cuBLAS, cuDNN and attention kernels, beyond what torch's tensors hold.
        reserve_bytes: Held by the allocator above what is allocated, whatever the run.
        reserve_share: Held by it besides, as a share of the working memory.
        compute_flops: Matrix products per second that a transformer step reaches.
        copy_bytes_per_s: From the host's pinned memory to the device.
        read_bytes_per_s: From the disk.
        time_factor: Measured seconds over predicted ones, by phase.
        bytes_factor: Measured working memory over predicted, by phase; 1.0 where nothing was seen.
        runs: How many measured runs stand behind the factors.
        spread: Relative spread of the runs' peaks about the prediction, 0 to 1.
        time_spread: Relative spread of the runs' seconds about the prediction.
    """

    context_bytes: int
    workspace_bytes: int
    reserve_bytes: int
    reserve_share: float
    compute_flops: float
    copy_bytes_per_s: float
    read_bytes_per_s: float
    time_factor: dict[Phase, float] = field(default_factory=dict[Phase, float])
    bytes_factor: dict[Phase, float] = field(default_factory=dict[Phase, float])
    runs: int = 0
    spread: float = 0.1
    time_spread: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """The device a run is planned for.

    Attributes:
        kind: "cuda", "rocm", "xpu" or "cpu"; the device of the CPU is the computer's RAM.
        name: For people, and the key of presets and calibration.
        total_bytes: Its memory.
        free_bytes: What a run of ours can have now: free, and what our engine would give back.
        calibration: What was measured here.
        simulated: Whether it is a described or simulated device.
    """

    kind: str
    name: str
    total_bytes: int
    free_bytes: int
    calibration: Calibration
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile:
    """The computer a run is planned for.

    Attributes:
        total_bytes: RAM.
        available_bytes: RAM that a run of ours can have now, without swapping.
        swap_free_bytes: Page file or swap that is left.
    """

    total_bytes: int
    available_bytes: int
    swap_free_bytes: int = 0

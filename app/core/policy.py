"""How a run may use memory: what the user, or a preset, decided once for many requests."""

import enum
from dataclasses import dataclass, field, replace

from app.core.units import GIB

DEFAULT_HEADROOM_BYTES = GIB // 2
"""Left free on the device for the desktop and other programs unless the user says otherwise."""
DEFAULT_RAM_HEADROOM_BYTES = 2 * GIB


class MemoryMode(enum.Enum):
    """How eagerly weights are kept on the device."""

    AUTO = "auto"
    """As much as fits stays; the planner decides."""
    RESIDENT = "resident"
    """Everything stays on the device, or the run is refused."""
    BALANCED = "balanced"
    """About half of what is free is used for weights that stay; the rest streams."""
    MINIMAL = "minimal"
    """As little as possible stays: the rest of the card is left to others."""


class Precision(enum.Enum):
    """In what a component's weights are kept and run."""

    AUTO = "auto"
    """As stored on the CPU; on a GPU bf16, or the closest that has a place."""
    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    NF4 = "nf4"
    """4 bits with a scale per block of 64: 4.5 bits per weight."""


AUTOENCODER_PRECISIONS = (Precision.AUTO, Precision.FP32, Precision.BF16)
"""What an autoencoder may be kept in: it is small, and never quantized."""


class Attention(enum.Enum):
    """What computes attention."""

    AUTO = "auto"
    """The fastest that a trial on this device, at this shape, found to work."""
    SDPA = "sdpa"
    """torch's own choice among its kernels."""
    FLASH = "flash"
    EFFICIENT = "efficient"
    CUDNN = "cudnn"
    MATH = "math"
    CHUNKED = "chunked"
    """Queries in parts, so that extreme sizes need little memory."""
    SAGE = "sage"
    FLASH_ATTN = "flash-attn"
    XFORMERS = "xformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """Precision of each component."""

    text_encoder: Precision = Precision.AUTO
    transformer: Precision = Precision.AUTO
    autoencoder: Precision = Precision.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """What a run may take and what it may give up.

    Attributes:
        headroom_bytes: Of the device's memory, left free for others.
        limit_bytes: Never more than this of the device's memory; None is no limit.
        ram_headroom_bytes: Of the computer's RAM, left free for others.
        mode: How eagerly weights stay on the device.
        strict: Never fewer images, never a smaller size: refuse and explain instead.
        upscale_back: Whether a picture made smaller is resampled to the size asked for.
        tile_px: Side of decode tiles in image pixels; 0 is whole, None lets the planner decide.
        precisions: Of each component.
        attention: What computes attention.
        compile: Whether the repeated blocks are compiled, where that works.
    """

    headroom_bytes: int = DEFAULT_HEADROOM_BYTES
    limit_bytes: int | None = None
    ram_headroom_bytes: int = DEFAULT_RAM_HEADROOM_BYTES
    mode: MemoryMode = MemoryMode.AUTO
    strict: bool = False
    upscale_back: bool = False
    tile_px: int | None = None
    precisions: Precisions = field(default_factory=Precisions)
    attention: Attention = Attention.AUTO
    compile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What of a policy can change while a run goes on: how much of the device it may use.

    Attributes:
        headroom_bytes: As in the policy.
        limit_bytes: As in the policy.
        mode: As in the policy.
    """

    headroom_bytes: int
    limit_bytes: int | None
    mode: MemoryMode

    @classmethod
    def of(cls, policy: MemoryPolicy) -> "Budget":
        """The policy's part."""
        return cls(
            headroom_bytes=policy.headroom_bytes,
            limit_bytes=policy.limit_bytes,
            mode=policy.mode,
        )

    def applied_to(self, policy: MemoryPolicy) -> MemoryPolicy:
        """The policy with this part changed."""
        return replace(
            policy,
            headroom_bytes=self.headroom_bytes,
            limit_bytes=self.limit_bytes,
            mode=self.mode,
        )

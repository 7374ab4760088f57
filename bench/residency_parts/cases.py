"""What is measured: one case each for a model, a card, a precision and a way to keep weights."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

GIB = 1 << 30
UNITS = {"": GIB, "gb": GIB, "mb": 1 << 20, "kb": 1 << 10}
"""As cards are sold: 8 GB are 8 x 2^30 bytes."""
MODELS = ("klein-4b", "klein-9b", "dev")
SMALL = "small"
"""The demo's network with random weights: for machines without a GPU."""
CAPS = ("8", "12", "16", "24")
SMALL_CAPS = ("2MB", "4MB")
"""Of the small network's weights alone: there is no GPU around them."""
PRECISIONS = ("bf16", "fp8", "int8", "nf4")

HEADROOM = "headroom"
LEAST = "headroom-least"
FILE = "headroom-file"
FLOORS = "floors"
RESIDENT = "diffusers-resident"
MODEL = "diffusers-model"
SEQUENTIAL = "diffusers-sequential"
GROUP = "diffusers-group"
GROUP_RECORD = "diffusers-group-record"
GROUP_LOW = "diffusers-group-low"
GROUP_BLOCKING = "diffusers-group-blocking"
MODES = {
    HEADROOM: "the planner's plan for the card",
    LEAST: "the plan that needs least of the card",
    FILE: "the planner's plan for the card, with all blocks in a file instead of RAM",
    RESIDENT: "everything on the card, by `to`",
    MODEL: "enable_model_cpu_offload",
    SEQUENTIAL: "enable_sequential_cpu_offload",
    GROUP: "enable_group_offload, blocks, stream",
    GROUP_RECORD: "enable_group_offload, blocks, stream, record_stream",
    GROUP_LOW: "enable_group_offload, blocks, stream, low_cpu_mem_usage",
    GROUP_BLOCKING: "enable_group_offload, blocks, no stream",
}
OFFLOADS = (MODEL, SEQUENTIAL, GROUP, GROUP_RECORD, GROUP_LOW, GROUP_BLOCKING)
"""Of diffusers, the modes that Headroom is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run in a process of its own.

    Attributes:
        model: Of `MODELS`, or `SMALL`.
        mode: Of `MODES`, or `FLOORS`.
        precision: Of the transformer's blocks: "bf16", "fp8", "int8" or "nf4".
        cap_bytes: Memory of the card that is acted; None is the whole one.
        device: "cuda" or "cpu".
        size_px: Side of the picture.
        steps: That are timed, after some that are not.
        compute_s: The floor of computing, once it was measured; 0 before.
        bytes_per_s: The floor of copying, once it was measured; 0 before.
        context_bytes: Of the process on the device without any tensor, as measured.
    """

    model: str
    mode: str
    precision: str
    cap_bytes: int | None
    device: str
    size_px: int
    steps: int
    compute_s: float = 0.0
    bytes_per_s: float = 0.0
    context_bytes: int = 0

    @property
    def label(self) -> str:
        """For people."""
        cap = "" if self.cap_bytes is None else f", {cap_text(self.cap_bytes)}"
        return f"{self.model} {self.precision}{cap}: {self.mode}"

    def to_json(self) -> str:
        """For the command line of the case's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """What `to_json` made."""
        return cls(**json.loads(text))


def parse_cap(text: str) -> int:
    """Bytes of a card: "8", "8GB" or, for small networks, "2MB".

    Raises:
        ValueError: It is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]b)?\s*", text.lower())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"{text!r} is no size of a card: write 8, 8GB or 2MB")
    return round(float(found[1]) * UNITS[found[2] or ""])


def cap_text(cap_bytes: int) -> str:
    """A cap as people write it: "8 GB"."""
    unit, size = next(
        ((unit, size) for unit, size in UNITS.items() if unit and cap_bytes >= size), ("kb", 1024)
    )
    return f"{cap_bytes / size:g} {unit.upper()}"


def all_cases(
    models: Sequence[str],
    caps_bytes: Sequence[int],
    precisions: Sequence[str],
    modes: Sequence[str],
    *,
    device: str,
    size_px: int,
    steps: int,
) -> Iterator[Case]:
    """Every case in the order it is run: each model's and precision's floors come first.

    What does not depend on the cap, the plan that needs least, is run for the smallest one only.
    """
    for model in models:
        for precision in precisions:
            floors = Case(
                model=model,
                mode=FLOORS,
                precision=precision,
                cap_bytes=None,
                device=device,
                size_px=size_px,
                steps=steps,
            )
            yield floors
            for cap_bytes in sorted(caps_bytes):
                for mode in modes:
                    if mode == LEAST and cap_bytes != min(caps_bytes):
                        continue
                    yield replace(floors, mode=mode, cap_bytes=cap_bytes)

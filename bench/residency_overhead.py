"""What residency itself costs the host per block; writes bench/results.

    python bench/residency_overhead.py

The transformer of klein-4B with tiny layers, so that it has the same blocks with the same number
of weights each, on a device whose copies and marks do nothing. Its blocks compute nothing, so what
is left is residency's own work before and after each block. Told is the time of the processor,
which does not count what other programs take of it; the target is under 30 microseconds per block.
"""

import gc
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.plan import ComponentPlan, Placement  # noqa: E402
from app.core.policy import Precision  # noqa: E402
from app.engine.compute_device import CpuDevice  # noqa: E402
from app.engine.placement import Placer  # noqa: E402
from app.engine.residency.host_network import packed_network  # noqa: E402
from app.engine.residency.ring import least_slots_bytes  # noqa: E402
from app.engine.residency.transfers import DirectTransfers, Mark, Times  # noqa: E402
from bench.report import table, write_result  # noqa: E402

TARGET_US = 30.0
WARM_UP_STEPS = 20
STEPS = 60
ROUNDS = 15


class NoTransfers(DirectTransfers):
    """Told everything, does nothing."""

    in_place = False

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
        """Nothing."""

    def take_times(self) -> Times:
        """Nothing."""
        return Times(copied_bytes=0, copying_s=0.0, waited_s=0.0)


class Device(CpuDevice):
    """The CPU with transfers that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers = NoTransfers()


def nothing(*_inputs: object) -> None:
    """What a block computes here."""


def step_us(blocks: list[Any]) -> float:
    """Microseconds of the processor per block, the middle of some rounds."""
    for _step in range(WARM_UP_STEPS):
        for block in blocks:
            block()
    rounds: list[float] = []
    for _round in range(ROUNDS):
        began_s = time.process_time()
        for _step in range(STEPS):
            for block in blocks:
                block()
        rounds.append((time.process_time() - began_s) * 1e6 / (STEPS * len(blocks)))
    return statistics.median(rounds)


def main() -> None:
    """Measure, print a table, write the result."""
    torch.set_num_threads(1)
    network: Any = Flux2Transformer2DModel(
        num_layers=5,
        num_single_layers=20,
        in_channels=16,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
    )
    blocks = [*network.transformer_blocks, *network.single_transformer_blocks]
    for block in blocks:
        block.forward = nothing
    bare_us = step_us(blocks)
    host = packed_network("transformer", network)
    placer = Placer({"transformer": host}, Device())
    sizes = [block.layout.size_bytes for block in host.blocks]
    least = least_slots_bytes(sizes)
    cases = {
        "all resident": ((), 0),
        "every second streamed": (tuple(range(0, len(blocks), 2)), 0),
        "all streamed, two large blocks fit": (tuple(range(len(blocks))), least),
        "all streamed, six large blocks fit": (tuple(range(len(blocks))), 3 * least),
    }
    gc.collect()
    gc.freeze()
    figures: dict[str, float] = {}
    for name, (streamed, slots_bytes) in cases.items():
        plan = ComponentPlan(
            name="transformer",
            precision=Precision.BF16,
            placement=Placement.STREAMED if streamed else Placement.TURNS,
            weights_bytes=0,
            device_bytes=0,
            streamed_blocks=streamed,
            slots_bytes=slots_bytes,
        )
        placer.replace([plan])
        with placer.phase("transformer"):
            figures[name] = step_us(blocks) - bare_us
    rows = [[name, f"{value:.1f} us"] for name, value in figures.items()]
    print(table(["residency", "per block"], rows))
    path = write_result(
        "residency_overhead",
        {
            "per_block_us": figures,
            "bare_block_us": bare_us,
            "target_us": TARGET_US,
            "largest_us": max(figures.values()),
        },
        note="Processor time of the host per block, with a device that does nothing; "
        "medians of 15 rounds. What a GPU's driver takes for copies and events comes on top.",
    )
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

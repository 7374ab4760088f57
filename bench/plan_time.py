"""How long one plan takes; writes bench/results.

    python bench/plan_time.py

A plan is made as one types, so all that matters is the slow ones. Asked are some thousands of
requests, chosen by chance out of a wide grid of models, cards, sizes, images, reference images,
steps, precisions, memory modes, computers and calibrations: each as if nothing had been planned
before, and then, as it is while one types, of the next size. Told is the time of the processor,
which does not count what other programs take of it.
"""

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.plan import GenerationPlan  # noqa: E402
from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision, Precisions  # noqa: E402
from app.core.profile import DeviceProfile, HostProfile  # noqa: E402
from app.core.request import SIZE_MULTIPLE_PX, GenerationRequest  # noqa: E402
from app.core.units import GIB  # noqa: E402
from app.engine.coefficients import ModelCoefficients, shipped_coefficients  # noqa: E402
from app.engine.machine import described_device, described_host  # noqa: E402
from app.engine.planner import plan_generation  # noqa: E402
from bench.report import percentile, table, write_result  # noqa: E402

TARGET_MS = 5.0
SEED = 22
PLANS = 4000
MODELS = ("demo", "klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b", "dev")
CARDS_GB = (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 80)
SIDES_PX = tuple(range(512, 4097, 64))
IMAGES = (1, 1, 1, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
REFERENCES: tuple[tuple[tuple[int, int], ...], ...] = (
    (), (), (), ((1024, 1024),), ((1600, 900), (480, 656)), ((768, 768),) * 3, ((2048, 2048),) * 4,
)  # fmt: skip
STEPS = (1, 4, 8, 20, 28, 50)
PRECISIONS = (Precision.AUTO, Precision.BF16, Precision.FP8, Precision.INT8, Precision.NF4)
RAM_GB = (8, 16, 32, 64, 128, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of one plan."""

    request: GenerationRequest
    device: DeviceProfile
    host: HostProfile
    policy: MemoryPolicy
    coefficients: ModelCoefficients
    references: tuple[tuple[int, int], ...]
    loaded: bool

    def plan(self) -> GenerationPlan:
        """What the planner says."""
        return plan_generation(
            self.request,
            self.device,
            self.host,
            self.policy,
            self.coefficients,
            references=self.references,
            loaded=self.loaded,
        )


def chosen(chance: random.Random) -> Asked:
    """A request by chance."""
    model = chance.choice(MODELS)
    found = shipped_coefficients(model)
    if found is None:
        raise LookupError(model)
    width_px = chance.choice(SIDES_PX)
    height_px = chance.choice((width_px, chance.choice(SIDES_PX)))
    device = described_device(chance.choice(CARDS_GB))
    calibration = replace(
        device.calibration,
        compute_flops=10 ** chance.uniform(12.7, 14.7),
        copy_bytes_per_s=10 ** chance.uniform(9.5, 10.8),
        read_bytes_per_s=10 ** chance.uniform(8.7, 10),
    )
    precision = chance.choice(PRECISIONS)
    return Asked(
        request=GenerationRequest(
            prompt=".",
            model=model,
            width_px=width_px,
            height_px=height_px,
            steps=chance.choice(STEPS),
            guidance=4.0,
            images=chance.choice(IMAGES),
        ),
        device=replace(device, calibration=calibration),
        host=described_host(chance.choice(RAM_GB)),
        policy=MemoryPolicy(
            mode=chance.choice((MemoryMode.AUTO, MemoryMode.AUTO, *MemoryMode)),
            strict=chance.random() < 0.25,
            attention=chance.choice((Attention.AUTO, Attention.AUTO, Attention.CHUNKED)),
            precisions=Precisions(text_encoder=precision, transformer=precision),
        ),
        coefficients=found,
        references=chance.choice(REFERENCES),
        loaded=chance.random() < 0.5,
    )


def caches() -> list[Callable[[], None]]:
    """What forgets all that the planner remembers from one plan to the next; not the models."""
    found: list[Callable[[], None]] = []
    for name, module in sys.modules.items():
        if name.startswith(("app.engine.planning.", "app.engine.planner")):
            things = vars(module).values()
            found += [thing.cache_clear for thing in things if hasattr(thing, "cache_clear")]
    return found


def taken_ms(asked: Asked) -> float:
    """Of the processor, for one plan."""
    began_ns = time.process_time_ns()
    asked.plan()
    return (time.process_time_ns() - began_ns) / 1e6


def next_size(asked: Asked) -> Asked:
    """The same one notch of the size on."""
    request = asked.request
    return replace(asked, request=replace(request, width_px=request.width_px - SIZE_MULTIPLE_PX))


def figures(times_ms: list[float]) -> dict[str, float]:
    """In milliseconds."""
    shares = {"median_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}
    found = {name: percentile(times_ms, share) for name, share in shares.items()}
    return found | {"largest_ms": max(times_ms)}


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description="How long one plan takes.")
    parser.add_argument("--plans", type=int, default=PLANS, help="how many requests")
    parser.add_argument("--slowest", type=int, default=0, help="show so many of the slowest")
    parser.add_argument("--no-write", action="store_true", help="leave the result file alone")
    options = parser.parse_args()
    chance = random.Random(SEED)
    all_asked = [chosen(chance) for _ in range(options.plans)]
    forget = caches()
    for asked in all_asked[:50]:
        asked.plan()
    gc.collect()
    gc.freeze()
    new_ms: list[float] = []
    next_ms: list[float] = []
    for asked in all_asked:
        for cache_clear in forget:
            cache_clear()
        new_ms.append(taken_ms(asked))
        next_ms.append(taken_ms(next_size(asked)))
    found = {"nothing planned before": figures(new_ms), "the next size": figures(next_ms)}
    rows = [[name, *(f"{ms:.2f}" for ms in row.values())] for name, row in found.items()]
    print(table(["plan", "median", "90 %", "99 %", "99.9 %", "largest, ms"], rows))
    order = sorted(range(len(all_asked)), key=lambda index: -new_ms[index])
    for index in order[: options.slowest]:
        print(f"{new_ms[index]:.1f} ms, next {next_ms[index]:.1f}: {words(all_asked[index])}")
    if options.no_write:
        return
    path = write_result(
        "plan_time",
        {"plans": len(all_asked), "target_ms": TARGET_MS} | found,
        note="Processor time of one plan each, of requests chosen by chance out of a wide grid.",
    )
    print(f"written to {path.relative_to(ROOT)}")


def words(asked: Asked) -> str:
    """One request in a line."""
    request, policy = asked.request, asked.policy
    return (
        f"{request.model}, {asked.device.name}, RAM {asked.host.total_bytes // GIB} GB, "
        f"{policy.precisions.transformer.value}, {policy.mode.value}, "
        f"{request.images} x {request.width_px}x{request.height_px}, {request.steps} steps, "
        f"{len(asked.references)} references{', strict' if policy.strict else ''}"
    )


if __name__ == "__main__":
    main()

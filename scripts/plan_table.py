"""Write docs/plan-table.md: what the planner says of cards that are described to it.

    python -m scripts.plan_table

Run it after a change of the planner or of the forecast coefficients; a test compares.
"""

from pathlib import Path

from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryPolicy, Precision, Precisions
from app.core.profile import HostProfile
from app.core.request import GenerationRequest
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.machine import described_device
from app.engine.planner import plan_generation
from app.engine.planning.figures import gigabytes
from app.engine.solver import Solver

TABLE = Path(__file__).resolve().parents[1] / "docs" / "plan-table.md"
CARDS_GB = (6, 8, 10, 12, 16, 24, 32, 48, 80)
MODELS = ("klein-4b", "klein-9b", "dev")
PRECISIONS = (Precision.BF16, Precision.FP8, Precision.NF4)
SIZES_PX = (1024, 2048)
GUIDES_PX = {8: 768, 12: 1024, 16: 1536, 24: 2048, 32: 2560}
"""Largest square size that popular guides give for a card, batch 1, klein-class models."""
PLENTY = HostProfile(total_bytes=1 << 50, available_bytes=1 << 50)

_INTRODUCTION = """\
# What fits on which card

Made by `python -m scripts.plan_table` from the planner; a test keeps it up to date.

**These are plans, not measurements.** Each is for a card of which nothing is known but its memory,
all of it free, less the usual 0.5 GB of headroom; with forecasts of memory that were computed from
the networks themselves, with overheads that are assumptions until a run on the card has measured
them, and with 10 % of doubt about everything but the weights counted in. The overheads are those of
NVIDIA cards under Linux; where torch's allocator cannot grow its segments (Windows, WSL, AMD,
Intel) it keeps more back, and `headroom plan` counts that there. RAM is taken to be plenty:
all weights are kept there once, so what a model weighs in the table below has to fit; what does not
is read from the disk, and `headroom plan --ram-gib` says how long that takes. GB are 2^30 bytes.
One image; times depend on the card and are told by `headroom plan`.

- **fits** 9.1: as asked, with the weights of each phase on the card; its peak in GB.
- **streams** 7.3: as asked, with blocks coming in from RAM as they are needed, behind the
  computing: the plan says by how many percent it is slower.
- **smaller** 1888: only at that size in pixels.
- **no**: not even at 256 pixels.

nf4 is what `--precision 4bit` runs.
"""
_GUIDES = """\
## Against the limits that guides give

The largest square picture at bf16 with nothing made smaller, one image, beside the limits that
popular guides give for klein-class models. Where the plan has to stream blocks or to tile the
decode it does; the picture is the one that was asked for. FLUX.2 was made for up to 4 megapixels
(2048 × 2048 px): beyond that the memory suffices, and the forecast extrapolates, but what the model
draws there may repeat itself.
"""

_WEIGHTS = """\
## What the weights need, in GB

Of the text encoders only the layers that are read: 27 of 36, and 30 of 40 of dev's, without output
head and without the part that sees. Their tables of embeddings stay in RAM: 0.7, 1.2 and 1.3 GB.
"""


def table() -> str:
    """The whole page."""
    weights = [["", "text encoder", "transformer", "autoencoder"]]
    parts = [_INTRODUCTION]
    for name in MODELS:
        coefficients = _coefficients(name)
        weights += [
            [f"{coefficients.label}, {precision.value}", *_weights(coefficients, precision)]
            for precision in PRECISIONS
        ]
        parts.append(f"## {coefficients.label}\n\n{_markdown(_verdicts(coefficients))}")
    parts.append(f"{_GUIDES}\n{_markdown(_guides())}")
    parts.append(f"{_WEIGHTS}\n{_markdown(weights)}")
    return "\n".join(parts)


def largest_px(card_gb: int, name: str) -> int:
    """The side of the largest square picture on a card."""
    solver = Solver(
        _request(1024),
        described_device(card_gb, growing=True),
        PLENTY,
        MemoryPolicy(),
        _coefficients(name),
    )
    found = solver.largest_size()
    return 0 if found is None else found.request.width_px


def _verdicts(coefficients: ModelCoefficients) -> list[list[str]]:
    columns = [(precision, size_px) for precision in PRECISIONS for size_px in SIZES_PX]
    rows = [["card", *(f"{precision.value}, {size_px} px" for precision, size_px in columns)]]
    for card_gb in CARDS_GB:
        plans = [_plan(coefficients, card_gb, *column) for column in columns]
        rows.append([f"{card_gb} GB", *map(_cell, plans)])
    return rows


def _guides() -> list[list[str]]:
    names = MODELS[:2]
    rows = [["card", "guides", *(_coefficients(name).label for name in names)]]
    for card_gb, guide_px in GUIDES_PX.items():
        sizes = [f"{largest_px(card_gb, name)} px" for name in names]
        rows.append([f"{card_gb} GB", f"{guide_px} px", *sizes])
    return rows


def _weights(coefficients: ModelCoefficients, precision: Precision) -> list[str]:
    kept = {"text_encoder": precision, "transformer": precision, "autoencoder": Precision.BF16}
    return [
        gigabytes(coefficients.weights_bytes(name, each), up=True) for name, each in kept.items()
    ]


def _plan(
    coefficients: ModelCoefficients, card_gb: int, precision: Precision, size_px: int
) -> GenerationPlan:
    precisions = Precisions(text_encoder=precision, transformer=precision)
    return plan_generation(
        _request(size_px),
        described_device(card_gb, growing=True),
        PLENTY,
        MemoryPolicy(precisions=precisions),
        coefficients,
    )


def _cell(plan: GenerationPlan) -> str:
    match plan.verdict:
        case Verdict.FITS:
            return f"fits {gigabytes(plan.peak_vram_bytes, up=True)}"
        case Verdict.STREAMS:
            return f"streams {gigabytes(plan.peak_vram_bytes, up=True)}"
        case Verdict.SMALLER:
            return f"smaller {plan.width_px}"
        case Verdict.DOES_NOT_FIT:
            return "no"


def _request(size_px: int) -> GenerationRequest:
    return GenerationRequest(prompt=".", width_px=size_px, height_px=size_px, steps=4)


def _coefficients(name: str) -> ModelCoefficients:
    found = shipped_coefficients(name)
    if found is None:
        raise SystemExit(f"The forecast of {name} is missing: run scripts/fit_forecast.py.")
    return found


def _markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8", newline="\n")
    print(f"{TABLE} is written.")

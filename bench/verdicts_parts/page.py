"""docs/verdicts.md: made of the result file, so that it says nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.units import GIB, MIB
from bench.report import RESULTS
from bench.verdicts_parts.summary import GROW
from bench.verdicts_parts.truth import LESS, MORE, NAMES, USUAL

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verdicts.md"
_SHOWN = 12
_HEAD = """\
# Verdicts held against what happens

Made by `python bench/verdicts.py --page` from `bench/results/verdicts.json`; a test compares.

The planner says of a request and a card: fits, fits with streaming, fits smaller, does not fit.
Here such plans for FLUX.2 klein 4B, klein 9B, their base models and dev, at real size, are carried
out, on described cards of 6 to 32 GB, to see whether memory runs out. **No GPU was at hand**: cards
are accounts, and nothing on this page was measured on one.

    python bench/verdicts.py                               all of it
    python bench/verdicts.py --minutes 30 --processes 2    as much as there is time for
    python bench/verdicts.py --models klein-4b --cards 8 12 --precisions bf16 --no-write

A small part of it is a test (`tests/engine/test_real_size_verdicts.py`).

## What is carried out

- The networks are diffusers' and transformers' own, of real size and depth, on tensors that have
  shapes and no data (torch's "meta" device, which here is the GPU). Quantized layers are those of
  `app/engine/quantize`, multiplied by dequantizing in one half of the cases and by the units for 8
  bits in the other.
- Weights: the engine's own `Placer`, `Residence`, `Streamer` and their ring, with packed blocks of
  the real layout, copied by the simulated device's transfers. Memory of a buffer counts until its
  last view ends, not until it is released, as with torch's allocator. While a network runs, an
  operation on weights that are in RAM, or whose copy has not ended, fails.
- The phases in the engine's order, by its own functions: what previews are fitted with, the prompts
  (two for base models), each reference image, two denoising steps by diffusers' pipelines with both
  passes of guidance, part by part of a split batch, decoding whole or in tiles. Steps after the
  second are like it.
- Each tensor that an operation makes is handed out by torch's caching allocator, whose rules are
  carried out on numbers (`bench/verdicts_parts/allocator.py`): pools, best fit, splitting, merging,
  growing, and giving free memory back before memory has run out. So rounding and reserve come of
  the tensors' own order, and not of a share. Memory runs out when the driver is asked for more than
  the card has less context and what the plan leaves to others: the budget, not the whole card.
- Nothing of this reads the planner's coefficients or its shares.

To do it in less time, without other results (tests compare them event by event):

- of blocks of one kind the first ones run until two that follow each other have done the same, and
  one in each further pass; the others take and give the same memory, with their weights coming in;
- a phase's tensors are run once for each model, precision and request, and played again, through
  the allocator and around the streaming, for plans that differ in where the weights are;
- a plan that is the same on several cards is carried out on the smallest.

## What is not

- The run's own loop around the phases, with its recovery: an unplanned lack of memory is counted
  here, and would there be met by the next rung. Saving needs nothing of the device. Decoding on the
  CPU is not carried out.
- Reading from the disk: all blocks are in RAM. The trials of kernels before a first run.
- Time.

## What is taken from a model

- **Context** (500 MB), **workspace of matrix products** (from the first one on) and **of
  convolutions** (while one runs): the terms of `app/engine/overheads.py`, which the planner reckons
  with, too. They are assumptions on both sides.
- **Fused kernels** for attention and RMS norm take what `app/engine/forecast/fused_kernels.py`
  says, on both sides.
- That torch's allocator is as its source says.

So the truth is varied as far as the forecast doubts itself: context, workspaces and every computed
tensor 10 % more or less.

Torch's allocator takes memory from the driver in segments. Where they **grow** (NVIDIA under Linux:
the engine sets "expandable segments") few gaps are left. Where they are of **fixed size** (Windows,
WSL, AMD, Intel, own settings) memory splinters: tensors of many sizes leave gaps that the next ones
do not fit in, and a segment of which a part is used cannot go back. The planner reckons with a
reserve for the one or the other ([forecast](forecast.md)), so each case is planned for both, and
each plan is carried out with the allocator that it was made for.

No kind of plans is known that runs out. With segments of fixed size the engine has memory given
back when a component's weights leave the GPU; where they stayed, three plans did: dev in fp8 on
32 GB, two times, whose transformer came to lie in segments that were cut for the text encoder, and
klein-4b in 4 bits on 6 GB with two images of 1536 x 1536 px and two reference images, where
everything takes 10 % more. All three were tried again, and run to their end.
"""


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    result = json.loads((RESULTS / "verdicts.json").read_text(encoding="utf-8"))
    figures = result["figures"]
    parts = [
        _HEAD,
        _extent(result["date"], figures),
        _outs(figures),
        _phase_text(figures["phases"]),
        _refusals(figures),
    ]
    return "\n".join(parts)


def _extent(date: str, figures: dict[str, Any]) -> str:
    kinds = figures["carried_out"]
    left = figures["plans_left"]
    share = f"{figures['plans']} plans that differ"
    done = (
        f"All {share} were tried"
        if not left
        else f"Of {share}, {figures['plans_done']} were tried, chosen by chance; "
        "the time did not last for the others"
    )
    return f"""\
## Result of {date}

{figures["cases"]} cases: 5 models, 7 cards, both kinds of segments, bf16, fp8, int8, 4 bits and the
precision left open (on a computer with 32 GB of RAM), 512 to 2048 px in squares and other ratios,
1 to 4 images, up to two reference images, and fewer of these in each of the other memory modes.
{done}:
{kinds.get("fits", 0)} verdicts' own plans, {kinds.get("would fit", 0)} things that a refusal says
would fit, and {kinds.get("refused", 0)} things that were refused, forced in the way that needs
least.
{figures["phases_run"]} phases were run and {figures["phases_played"]} played again.
"""


def _outs(figures: dict[str, Any]) -> str:
    total = sum(one["plans"] for one in figures["cards"].values())
    unplanned = figures["unplanned"]
    each = " and ".join(
        f"{one['plans']} with segments {'that ' if name == GROW else ''}{name}"
        for name, one in figures["segments"].items()
    )
    where = f"{each}, on the usual card and with everything 10 % more or 10 % less"
    verdict = (
        f"**None of the {total} plans that are said to fit ran out of memory**: {where}."
        if not unplanned
        else f"**{len(unplanned)} of the {total} plans that are said to fit ran out of memory** "
        f"({where}; how many of which, the first table says):\n\n{_list(unplanned)}"
    )
    parts = [f"## Plans that are said to fit\n\n{verdict}\n"]
    for key, word in (
        ("segments", "segments"),
        ("cards", "card"),
        ("models", "model"),
        ("precisions", "precision"),
        ("modes", "memory mode"),
        ("verdicts", "verdict"),
    ):
        rows = [[word, "plans", *(f"out: {truth}" for truth in NAMES), "fullest"]]
        for name, one in _in_order(figures[key]):
            outs = one["ran_out"]
            cells = [str(outs.get(truth, 0)) for truth in NAMES]
            rows.append([name, str(one["plans"]), *cells, f"{one['fullest']:.1%}"])
        parts.append(_markdown(rows))
    more = sum(one["short_of_its_figure"].get(MORE, 0) for one in figures["cards"].values())
    parts.append(f"""\
"Fullest" is the largest peak of context and reserved memory over what the plan may use, on the
usual card. An allocator that may keep memory keeps it, so a peak near 100 % is no need: what counts
is whether memory ran out.

Each was also tried on a card that has just what the plan says it needs, doubt included, and not a
byte more, with that doubt come true, everything 10 % more: {more} of them ran out there.
""")
    return "\n".join(parts)


def _phase_text(phases: dict[str, Any]) -> str:
    rows = [
        ["phase", "runs", "tensors and weights: least", "median", "most", "peak: median", "most"]
    ]
    for name, one in phases.items():
        tensors, peak = one["tensors_mib"], one["peak_mib"]
        values = (tensors["least"], tensors["median"], tensors["most"], peak["median"])
        cells = [f"{value:+.0f} MB" for value in (*values, peak["most"])]
        rows.append([name, str(one["runs"]), *cells])
    return f"""\
## Phase by phase, against the plan

What was held above what was planned, on the usual card, where segments grow; each phase with an
allocator that begins empty and may take as much as it likes. "Tensors and weights" is what the
allocator had handed out: the plan's weights and working memory, and on top the workspaces (16 MB,
and up to 192 MB while a convolution runs), which the plan counts among the overheads. Below zero
are quantized layers: the plan counts the way to multiply that needs most. "Peak" adds context and
what the allocator keeps, against the plan's peak without its doubt; an allocator that is not short
keeps more than it needs.

{_markdown(rows)}
Loading ends with what previews are fitted with, where there is room for that: a picture of 256 px
through the autoencoder, beside what stays on the device.
"""


def _refusals(figures: dict[str, Any]) -> str:
    refused = figures["refused"]
    total = sum(sum(counts.values()) for counts in refused.values())
    words = {
        USUAL: "over on the usual card",
        MORE: "only with everything 10 % more",
        LESS: "only with everything 10 % less",
        "none": "not over the card at all",
    }
    rows = [["forced in the way that needs least", *(f"segments {name}" for name in refused)]]
    rows += [
        [word, *(str(counts.get(name, 0)) for counts in refused.values())]
        for name, word in words.items()
    ]
    offered = figures["carried_out"].get("would fit", 0)
    text = f"""\
## Refusals

A request that is refused (fits smaller, does not fit) is forced: the way that needs least of the
card, exactly as asked; where nothing at all fits, the smallest picture. Of {total}:

{_markdown(rows)}
What a refusal says would fit, the images of the size asked for and the largest size for one, was
carried out as well: {offered} times, counted above among the plans that are said to fit.
"""
    fits = figures["refused_but_fits"]
    if fits:
        most = max(one["needed_bytes"] - one["budget_bytes"] for one in fits)
        text += f"""
A refusal that would have fitted by this account is the price of doubt: the plan counts as much for
the allocator as the worst order of requests made it keep, and 10 % more of all but the weights.
Those that would have fitted in every way that
was tried were missing at most {most / MIB:.0f} MB by their own figures:

{_list(fits[:_SHOWN])}
"""
    return text


def _list(found: Sequence[dict[str, Any]]) -> str:
    lines = []
    for one in found:
        needed, budget = one["needed_bytes"] / GIB, one["budget_bytes"] / GIB
        outs = ", ".join(one["ran_out"]) or "nowhere"
        lines.append(f"- {one['case']}: needs {needed:.2f} of {budget:.2f} GB; ran out: {outs}")
    return "\n".join(lines)


def _in_order(groups: dict[str, Any]) -> list[tuple[str, Any]]:
    def number(item: tuple[str, Any]) -> tuple[float, str]:
        first = item[0].split()[0]
        return (float(first), "") if first.isdigit() else (0.0, item[0])

    return sorted(groups.items(), key=number)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---', *['---:'] * (len(head) - 1)])} |"]
    lines += [f"| {' | '.join(row)} |" for row in body]
    return "\n".join(lines) + "\n"

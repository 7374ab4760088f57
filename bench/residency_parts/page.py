"""docs/residency-bench.md: made of the result files, so that it says nothing else."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.report import RESULTS
from bench.residency_parts.cases import MODELS, MODES, cap_text
from bench.residency_parts.page_more import convert_page, encode_page
from bench.residency_parts.rows import full
from bench.residency_parts.tables import (
    CPU_HEADER,
    FASTER_HEADER,
    MEASURED_HEADER,
    MODELLED_HEADER,
    RAM_HEADER,
    cpu_table,
    faster_table,
    markdown,
    measured_table,
    modelled_table,
    ram_table,
)
from bench.residency_parts.targets import AS_THEY_COME, FASTER

PAGE = Path(__file__).resolve().parents[2] / "docs" / "residency-bench.md"

_HEAD = """\
# Streaming against other ways to offload

Made by `python bench/residency.py --page` from `bench/results/residency*.json`; a test compares.

The question: how long does a denoising step take when a card cannot hold the transformer, by
Headroom's residency and by diffusers' offload modes, and how far is that from what the hardware
allows? The floor of a step is the larger of two things: what it computes, and the bytes that have
to come in over the link.

"""
_NO_GPU = """\
**No real GPU was at hand when this page was made.** So nothing below is a measurement of a GPU.
There are two tables instead: a small network on the CPU through the real streamer, which shows that
the bits do not depend on where weights are and that every byte is where the plan says; and a model
of what should come out on real cards, by stated rules and assumptions. `bench/residency.py` is
written to measure the same on a machine with an NVIDIA GPU; that part was not tried on one.

"""
_HOW = """\
## How it is measured where a GPU is

    python bench/residency.py
    python bench/residency.py --models klein-4b --caps 8 --precisions bf16 fp8 --modes headroom

- The transformers of FLUX.2 klein 4B, klein 9B and dev at their real size, with random weights that
  are made block by block; one picture of 1024 px, a prompt of 512 tokens. No Qt, no downloads.
- Cards of 8, 12, 16 and 24 GB (2^30 bytes) are acted: `torch.cuda.set_per_process_memory_fraction`
  caps torch's allocator at the card less the process's context, and the planner is given the card
  by `MemoryPolicy.limit_bytes`. The placement is the planner's own plan for that card.
- Each case has a process of its own and a time limit, and is a row whatever becomes of it: out of
  memory, not enough RAM, too slow. Rows are written as they come.
- The floors are measured first: computing alone, with all blocks of a kind sharing one block's
  weights; and copying alone, from pinned RAM.
- Diffusers' modes are switched on by its own methods. In quantized precisions they run the same
  quantized layers as Headroom, so that the work is the same.
- VRAM is the peak of torch's allocator, without the context, which has a field of its own. RAM is
  what the process took above what it had before it made weights.
- All cases together take hours, most of them to make weights; the options choose. dev in bf16 needs
  68 GB of RAM, and group offload with a stream up to twice that: what RAM does not hold is a row.
  `headroom-file` needs next to none: its blocks are in a file in a folder for temporary files. The
  file was just written, so the system may have parts of it in RAM.
- Only the transformer is there: encoding and decoding are not part of a step.

"""
_CPU = """\
## Measured on the CPU: bytes and bits, not seconds

A FLUX.2 transformer of 1.9 million parameters (the demo's, with random weights), through the real
streamer: its arena is RAM, and the CPU copies each block at once. All cases ran in one process
(`--device cpu --same-process`). The "card" is room for weights alone. "As planned" says that
weights on the device with the slots, all weights, and the bytes copied in each step are those of
the plan, to the byte. "Same bits" compares a step's result with that of everything in place.
Diffusers' streams do not run with a CPU in the place of a GPU, nor does its sequential mode:
accelerate takes its "cpu:0" for another device than "cpu", and fails.

"""
_MODELLED = """\
## Modelled, not measured

Seconds of one step at 1024 px, with each GPU as its own card. "Computing" and "copying all" are the
floors: what a step computes, and all weights over the link. "Headroom" is
`app.engine.residency.timeline` under the planner's plan, "VRAM" its weights, slots and working
memory in GB (10^9 bytes), "least VRAM" the same of the plan that needs least; the context and the
allocator's reserve come on top. "All on the card" is a step when diffusers holds the whole
transformer there (by `to` or `enable_model_cpu_offload`), "-" where that does not fit. "Group, low
RAM" is group offload with `low_cpu_mem_usage`. "RAM" is for the weights, of Headroom and of group
offload with a stream, whose pinned tensors each take the next power of two.

"""
_READING = """\
### What the model says, and what it does not

- At 1024 px FLUX.2 computes so much for each byte that streaming hides behind it on nearly all of
  these cards: Headroom's step is the computing floor. That is what is aimed at.
- The rows that are more than 1.05 over the larger floor are all of the plan that needs least, on
  the RTX 4090. It has two slots of the largest block, and there copying takes nearly as long as
  computing (0.81 to 0.98 of it): double blocks are twice as large as single ones and compute as
  long, and two slots do not carry what single blocks gain over to double ones. Four slots mend it
  (at most 1.03 by the same timeline) and take two blocks more, which for klein-9b in fp8 is more
  than the 3 GB that are aimed at. The plans for the cards themselves have the room, and meet it.
- **The aims "1.5 x faster than the best offload mode", and 3 x on 8 GB, are not met by this model
  with the same precision on both sides.** Diffusers' group offload with a stream hides most copies
  behind computing, too: by its rules it loses only what it copies without a stream in every step. A
  step that computes for 2 s and loses 0.3 s in that mode cannot be made 1.5 times as fast by moving
  weights in any other way; it would take a copy that is longer than the computing, which at 1024 px
  only the fastest cards with the largest types come near.
- The rules favour diffusers where they leave things open: allocations, hooks, launches and the
  host's waits cost nothing in them, and its VRAM is counted without headroom, reserve and doubt,
  which the planner keeps. Only a measurement can say what they cost.
- That mode pins all weights tensor by tensor, which takes up to twice their size in RAM. Where RAM
  does not hold that, what is left is `low_cpu_mem_usage` or sequential offload, and there the
  difference is as large as the columns say.
- A step in int8 is longer than one in fp8 where both run, by the passes over the card's memory that
  scale its sums; on Ampere, which has no products in fp8, int8 is the quickest.
- Where a card holds the whole transformer, everybody computes only, and nobody is faster.

"""


_FASTER = """\
### Faster than diffusers: two ways to read it

"1.5 x faster than the best diffusers offload mode that fits the same cap, and 3 x at 8 GB" can mean
the same weights on both sides, or what one gets: Headroom in each of its precisions beside
diffusers' modes as they come, in bf16. Both are counted over all rows where diffusers' fastest mode
has to offload in each step, and for computers with 64 and 32 GB of RAM (2^30 bytes), of which 4 GB
are left to the system: modes that take more are out, and so is Headroom where it would read weights
from the disk. The text encoder is left out of RAM on both sides.

"""
_RAM = """\
What diffusers' modes take of RAM for the transformer, and which of them a computer has room for:

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    measured = _figures("residency")
    if measured is None:
        parts.append(_NO_GPU)
    else:
        parts.append(f"## Measured on {measured.get('gpu')}\n\n")
        rows = [full(row) for row in measured["rows"]]
        parts += [markdown(MEASURED_HEADER, measured_table(rows)), "\n", _aims(measured), "\n"]
        parts += [_faster(measured, measured=True)]
    parts += [_HOW, _modes()]
    on_cpu = _figures("residency_cpu")
    if on_cpu is not None:
        rows = [full(row) for row in on_cpu["rows"]]
        parts += [_CPU, markdown(CPU_HEADER, cpu_table(rows)), "\n"]
    encoded, converted = _figures("residency_encode"), _figures("residency_convert")
    if encoded is not None:
        parts.append(encode_page(encoded["rows"]))
    if converted is not None:
        parts.append(convert_page(converted["rows"]))
    modelled = _figures("residency_modelled")
    if modelled is not None:
        parts += [_MODELLED, *_modelled_tables(modelled), _READING, _aims(modelled), "\n"]
        parts += [_faster(modelled, measured=False)]
        rows = [full(row) for row in modelled["rows"]]
        parts += [_RAM, markdown(RAM_HEADER, ram_table(rows)), "\n"]
        parts += [_assumptions(modelled["assumptions"]), _rules(modelled["rules"])]
    return "".join(parts).rstrip() + "\n"


def _figures(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    return dict(json.loads(path.read_text(encoding="utf-8"))["figures"])


def _modes() -> str:
    lines = "".join(f"- `{name}`: {what}\n" for name, what in MODES.items())
    return f"The modes:\n\n{lines}\n"


def _modelled_tables(figures: dict[str, Any]) -> Iterable[str]:
    rows = [full(row) for row in figures["rows"]]
    caps = sorted({row["cap_bytes"] for row in rows})
    for model in MODELS:
        for cap_bytes in caps:
            lines = modelled_table(rows, model, cap_bytes)
            if lines:
                yield f"### {model} on {cap_text(cap_bytes)}\n\n"
                yield f"{markdown(MODELLED_HEADER, lines)}\n"


def _aims(figures: dict[str, Any]) -> str:
    """How many rows meet each aim but that of being faster, and the row farthest from it."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for check in figures["targets"]:
        if "reading" not in check:
            found.setdefault((check["aim"], check["limit"]), []).append(check)
    lines = [
        [_aim(aim, limit), str(sum(one["met"] for one in checks)), str(len(checks)), _range(checks)]
        for (aim, limit), checks in found.items()
    ]
    return markdown(("aim", "rows that meet it", "of", "from, to"), lines)


def _aim(aim: str, limit: float) -> str:
    if aim == "VRAM":
        return f"VRAM of the plan that needs least, fp8: at most {limit / 1e9:g} GB"
    return f"{aim}: at most {limit:g}"


def _faster(figures: dict[str, Any], *, measured: bool) -> str:
    """The aim of being faster, in both ways to read it, and what is reached of the second."""
    checks = [one for one in figures["targets"] if "reading" in one]
    known = [
        one
        for one in checks
        if one["reading"] == AS_THEY_COME and one["ram_gb"] is None and one["value"] is not None
    ]
    by_precision: dict[str, list[float]] = {}
    met: dict[str, list[str]] = {}
    for one in known:
        if one["cap_bytes"] in FASTER:
            by_precision.setdefault(one["precision"], []).append(one["value"])
        elif one["met"]:
            gpu = str(one.get("gpu")).removeprefix("RTX ")
            met.setdefault(one["model"], []).append(f"{one['precision']} on {gpu}")
    reached = ", ".join(
        f"{precision} {min(values):.2f} to {max(values):.2f}"
        for precision, values in by_precision.items()
    )
    sentences = [
        "These are measurements." if measured else "This is a model, not a measurement.",
        "With diffusers in bf16 and any RAM, steps on 8 GB are so many times as fast, by "
        f"precision: {reached or 'none was compared'}.",
    ]
    if not measured:
        sentences.append(
            "So 3 x on 8 GB is not reached in either reading: products in fp8 halve the computing "
            "at best, which is most of a step."
        )
    rows = "; ".join(f"{model}: {', '.join(names)}" for model, names in met.items())
    sentences.append(f"1.5 x on other cards is met by these: {rows or 'none'}.")
    text = "\n".join(textwrap.wrap(" ".join(sentences), 100))
    return f"{_FASTER}{markdown(FASTER_HEADER, faster_table(checks))}\n{text}\n\n"


def _range(checks: Sequence[dict[str, Any]]) -> str:
    values = sorted(one["value"] for one in checks)
    scale = 1e9 if checks[0]["aim"] == "VRAM" else 1
    return f"{values[0] / scale:.2f}, {values[-1] / scale:.2f}"


def _assumptions(found: dict[str, Any]) -> str:
    header = ("GPU", "card", "peak, bf16 TFLOPS", "memory, GB/s", "link", "link, GB/s", "fp8")
    lines = [
        [
            gpu["name"],
            f"{gpu['card_gb']} GB",
            f"{gpu['bf16_peak_tflops']:g}",
            f"{gpu['memory_bytes_per_s'] / 1e9:g}",
            f"PCIe {gpu['link']}",
            f"{gpu['link_bytes_per_s'] / 1e9:g}",
            "yes" if gpu["native_fp8"] else "no",
        ]
        for gpu in found["gpus"]
    ]
    text = (
        "Peaks are dense bf16 products with fp32 sums, as the vendors' data sheets are remembered; "
        "memory is as data sheets have it; links are what the PCIe standard names for the card's "
        "generation and width. "
        f"A step is taken to reach {found['compute_share']:.0%} of the peak, copies "
        f"from pinned RAM {found['link_share']:.0%} of the link, copies from ordinary RAM "
        f"{found['pageable_bytes_per_s'] / 1e9:g} GB/s. Pinning for each copy anew runs at "
        f"{found['pinning_bytes_per_s'] / 1e9:g} GB/s: 23.8 GB of blocks took 7.6 s a forward in "
        "the timings of https://github.com/huggingface/diffusers/pull/11106."
    )
    products = (
        f"Products in int8 on all these cards, and in fp8 where the table says so, run at "
        f"{found['native_factor']} times the rate of bf16, attention always at that of bf16. What "
        "quantized layers read and write beside their products is counted operation by operation "
        "(`bench/residency_parts/passes.py`) and runs at "
        f"{found['memory_share']:.0%} of the card's memory bandwidth: 21 bytes for each number "
        "that a layer in int8 takes and 18 for each that it gives, 5 for each that one in fp8 "
        "takes, 7 or 10.5 for each weight of 8 or 4 bits that becomes bf16. Diffusers' modes run "
        "the same layers."
    )
    parts = ("\n".join(textwrap.wrap(part, 100)) for part in (text, products, found["sources"]))
    return "### Assumptions\n\n" + "\n\n".join((*parts, markdown(header, lines))) + "\n"


def _rules(rules: dict[str, str]) -> str:
    lines = "".join(f"- `{mode}`: {rule}\n" for mode, rule in rules.items())
    return f"### Rules of diffusers' modes, as its code has them\n\n{lines}"

"""The parts of docs/residency-bench.md beside the steps: a new prompt, and a new conversion."""

from collections.abc import Sequence
from typing import Any

from bench.residency_parts.tables import markdown

Figures = dict[str, Any]
ENCODE_HEADER = ("model", "on", "layers", "computing, s", "copying, s", "encoding, s", "over floor")
CONVERT_HEADER = (
    "model",
    "to",
    "on",
    "source, GB",
    "file, GB",
    "reading, s",
    "writing, s",
    "both, s",
    "converting, s",
    "processor, s",
    "RAM, blocks",
    "loading, s",
    "RAM above it, blocks",
    "opening, s",
)
BUSY_SHARE = 0.2
"""Of a core: above it others are told of."""
ENCODE = """\
## A new prompt

`python bench/residency.py --parts encode`: a prompt of 512 tokens through the layers of the text
encoder that are read, all streamed in two pairs of slots, as the engine runs it; random weights.
The floor is the larger of computing alone, with one layer's weights for all, and copying all layers
once. The target is twice the floor. Where it ran on the CPU it is processor time of one thread,
with some of the layers, and copies are within RAM and hide behind nothing: **a figure of the CPU,
which says nothing of GPUs**. The tokenizer is left out.

"""
CONVERT = """\
## A new conversion

`python bench/residency.py --parts convert`: a transformer of real size in bf16, in a file that is
not in RAM, is quantized into its converted file and loaded into RAM. Beside it stands what the same
disk takes to read the source, to write a file of the converted size until it is on the disk, and to
do both at once, which is the floor. "Processor" is all threads' time. RAM is what the process took
at most: while it converts; and while it loads, above the weights that stay; in blocks of the
source, of which the largest counts. The target is two. "Opening" is the next time, with nothing of
the file in RAM, until every tensor is mapped; the target is 2 s.

"""
BUSY = """\
Other programs took {others:.0f} s of the processor while this was converting for {seconds:.0f} s,
and used the disk: **the seconds are too long, and not to be compared with each other.** The
processor's own time holds: divided by the cores, it is what converting takes where the disk is
quicker.

"""


def encode_page(rows: Sequence[Figures]) -> str:
    """The section, with its table."""
    lines = [
        [
            row["model"],
            row["device"],
            str(row["layers"]),
            f"{row['compute_s']:.2f}",
            f"{row['copy_s']:.2f}",
            f"{row['encode_s']:.2f}",
            f"{row['over_floor']:.2f}",
        ]
        for row in rows
        if "encode_s" in row
    ]
    return f"{ENCODE}{markdown(ENCODE_HEADER, lines)}\n"


def convert_page(rows: Sequence[Figures]) -> str:
    """The section, with its table."""
    lines = [_convert_line(row) for row in rows if "convert_s" in row]
    others = sum(row.get("others_cpu_s", 0.0) for row in rows)
    seconds = sum(row.get("convert_s", 0.0) for row in rows)
    busy = BUSY.format(others=others, seconds=seconds) if others > BUSY_SHARE * seconds else ""
    return f"{CONVERT}{markdown(CONVERT_HEADER, lines)}\n{busy}"


def _convert_line(row: Figures) -> list[str]:
    block_bytes = row["largest_block_bytes"]
    loaded = row["load_s"] is not None
    above = max(0, row["load_ram_bytes"] - row["kept_bytes"]) if loaded else 0
    return [
        row["model"],
        row["precision"],
        row["device"],
        f"{row['source_bytes'] / 1e9:.1f}",
        f"{row['converted_bytes'] / 1e9:.1f}",
        f"{row['read_s']:.1f}",
        f"{row['write_s']:.1f}",
        f"{row['disk_s']:.1f}",
        f"{row['convert_s']:.1f}",
        f"{row['convert_cpu_s']:.1f}",
        f"{row['convert_ram_bytes'] / block_bytes:.2f}",
        f"{row['load_s']:.1f}" if loaded else "-",
        f"{above / block_bytes:.2f}" if loaded else "-",
        f"{row['reopen_s']:.2f}",
    ]

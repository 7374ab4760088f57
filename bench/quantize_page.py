"""The tables of docs/quantization.md, made of the result file; the text around them is written."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quantization.md"
LAYER = "klein-4B single block, qkv and mlp"
TARGETS = {"fp8": "95 %", "int8": "95 %", "4 bits": "90 %"}
LAYERS_HEADER = ("Layer", "Kind", "Error", "ms", "Bits a weight", "Quantizing, s")
DEMO_HEADER = (
    "Demo",
    "Draws what it is told",
    "Target",
    "Layer, mean",
    "Layer, largest",
    "Latents, 1 step",
    "Latents, 8 steps",
)
_OPENED = re.compile(r"Opening the converted transformer of klein-9B, [\d.]+ GB, takes [\d.]+ s")


def page(text: str, figures: Mapping[str, Any]) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: The page lacks one of the tables.
    """
    text = _with_table(text, LAYERS_HEADER, _layers(figures["layers on cpu"][LAYER]))
    text = _with_table(text, DEMO_HEADER, _demo(figures["demo"]))
    opened = figures["open"]
    said = (
        f"Opening the converted transformer of klein-9B, {opened['converted_bytes'] / 1e9:.1f} GB, "
        f"takes {opened['open_and_map_s']:.2f} s"
    )
    return _OPENED.sub(said, text)


def _layers(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    kinds = ["bf16", "fp8", "int8", "4 bits"]
    return [
        [
            f"**{row['layer']}**" if row["layer"].startswith("Headroom") else row["layer"],
            row["kind"],
            f"{row['error']:.4f}",
            f"{row['ms']:.0f}",
            f"{row['bits_per_weight']:.2f}",
            f"{row['quantize_s']:.1f}",
        ]
        for row in sorted(rows, key=lambda row: kinds.index(row["kind"]))
    ]


def _demo(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    names = ("layer_error_mean", "layer_error_max", "latent_error_1_step", "latent_error")
    return [
        [
            name,
            f"{row['right']:.0%} of {row['pictures']}",
            TARGETS.get(name.partition(",")[0], ""),
            *(f"{row[key]:.3f}" if key in row else "" for key in names),
        ]
        for name, row in figures.items()
    ]


def _with_table(text: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = _line(header)
    begin = text.find(head)
    if begin < 0:
        raise ValueError(f"the page has no table {head}")
    end = text.index("\n\n", begin)
    lines = [head, "|---" * len(header) + "|", *map(_line, rows)]
    return text[:begin] + "\n".join(lines) + text[end:]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")

"""Presets as TOML text that people can read and write.

Reading is lenient: whatever can be used is used, and a sentence says what is left out. Sizes are in
GB of 1024^3 bytes, as on the GPU's box; what stands for "let Headroom decide" is the word auto.
"""

import logging
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.items import Table
from tomlkit.toml_document import TOMLDocument

from app.core.policy import (
    AUTOENCODER_PRECISIONS,
    Attention,
    MemoryMode,
    MemoryPolicy,
    Precision,
    Precisions,
)
from app.core.preset import PRESET_SCHEMA_VERSION, Preset, PresetLimits
from app.core.preset_values import Values
from app.core.request import (
    MAX_GUIDANCE,
    MAX_IMAGES,
    MAX_SIZE_PX,
    MAX_STEPS,
    MIN_SIZE_PX,
    SIZE_MULTIPLE_PX,
)
from app.core.units import GIB

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 1 << 20
"""A preset has under 1 KB; anything far larger is some other file."""
MAX_NAME_CHARACTERS = 80
_MAX_GB = 100_000
_MAX_BROKEN_LINES = 400
_MAX_LINES_TOLD = 9
_MAX_DECIMALS = 10
"""Of GB: enough for single bytes."""
_AUTO = "auto"
_WHOLE = "whole"
_HEAD = "How Headroom uses a GPU. Sizes are in GB of 1024^3 bytes; see docs/presets.md."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPreset:
    """What was understood of a preset's text.

    Attributes:
        preset: With this version's defaults for what could not be used.
        problems: One sentence for each thing that could not.
    """

    preset: Preset
    problems: tuple[str, ...] = ()


def read_preset(data: bytes, *, name: str) -> ReadPreset:
    """The preset in a file's bytes; never fails.

    Args:
        data: The whole file.
        name: Of the preset when the file names none.
    """
    problems: list[str] = []
    raw = _parsed(data, name, problems)
    values = Values(raw, preset=name, problems=problems)
    preset = _preset(values, name)
    values.finish()
    return ReadPreset(preset=preset, problems=tuple(problems))


def _parsed(data: bytes, name: str, problems: list[str]) -> dict[str, Any]:
    if len(data) > MAX_FILE_BYTES:
        problems.append(f"The preset “{name}” is no preset: its file has {len(data)} bytes.")
        return {}
    text = data.decode("utf-8-sig", "replace")
    try:
        if "\ufffd" not in text:
            return tomllib.loads(text)
    # RecursionError: brackets in brackets in brackets.
    except (ValueError, RecursionError) as error:
        log.info("preset %s: %s", name, error)
    return _salvaged(text, name, problems)


def _salvaged(text: str, name: str, problems: list[str]) -> dict[str, Any]:
    """What the lines say that can be read; in a preset each value has a line of its own."""
    kept = ""
    values: dict[str, Any] = {}
    bad: list[int] = []
    for number, line in enumerate(text.splitlines()[:_MAX_BROKEN_LINES], start=1):
        try:
            if "\ufffd" in line:
                raise UnicodeError
            values = tomllib.loads(f"{kept}{line}\n")
        except (ValueError, RecursionError):
            bad.append(number)
        else:
            kept += f"{line}\n"
    lines = ", ".join(map(str, bad[:_MAX_LINES_TOLD])) + (
        ", ..." if len(bad) > _MAX_LINES_TOLD else ""
    )
    problems.append(
        f"The preset “{name}” is broken at line {lines}; the rest of it is used."
        if kept.strip()
        else f"The preset “{name}” cannot be read: its file is no TOML text."
    )
    return values


def _preset(top: Values, name: str) -> Preset:
    version = top.whole("schema_version", PRESET_SCHEMA_VERSION, lowest=1)
    if version > PRESET_SCHEMA_VERSION:
        top.problems.append(
            f"The preset “{name}” is of a newer Headroom (version {version} of presets, known is "
            f"{PRESET_SCHEMA_VERSION}); what is understood of it is used."
        )
    found_name = top.text("name", longest=MAX_NAME_CHARACTERS)
    gpu, memory, precision = top.table("gpu"), top.table("memory"), top.table("precision")
    limits, defaults = top.table("limits"), top.table("defaults")
    return Preset(
        schema_version=version,
        name=name if found_name is None else found_name,
        gpu_name=gpu.text("name"),
        vram_bytes=_bytes(gpu, "vram_gb", None, lowest=1),
        model=top.text("model"),
        policy=_policy(memory, precision, defaults),
        limits=PresetLimits(
            max_side_px=limits.optional_whole("max_side_px", MIN_SIZE_PX, MAX_SIZE_PX),
            max_pixels=limits.optional_whole("max_pixels", MIN_SIZE_PX**2, MAX_SIZE_PX**2),
            max_images=limits.optional_whole("max_images", 1, MAX_IMAGES),
        ),
        steps=defaults.optional_whole("steps", 1, MAX_STEPS),
        guidance=defaults.optional_number("guidance", 0.0, MAX_GUIDANCE),
    )


def _policy(memory: Values, precision: Values, defaults: Values) -> MemoryPolicy:
    usual = MemoryPolicy()
    modes = tuple(mode.value for mode in MemoryMode)
    attentions = tuple(attention.value for attention in Attention)
    return MemoryPolicy(
        headroom_bytes=_bytes(memory, "headroom_gb", usual.headroom_bytes) or 0,
        limit_bytes=_bytes(memory, "limit_gb", None, lowest=1),
        ram_headroom_bytes=_bytes(memory, "ram_headroom_gb", usual.ram_headroom_bytes) or 0,
        mode=MemoryMode(memory.word("mode", modes, usual.mode.value)),
        strict=memory.switch("strict", default=usual.strict),
        upscale_back=memory.switch("upscale_back", default=usual.upscale_back),
        tile_px=_tile_px(memory),
        precisions=Precisions(
            text_encoder=_precision(precision, "text_encoder"),
            transformer=_precision(precision, "transformer"),
            autoencoder=_precision(precision, "autoencoder", AUTOENCODER_PRECISIONS),
        ),
        attention=Attention(defaults.word("attention", attentions, usual.attention.value)),
        compile=defaults.switch("compile", default=usual.compile),
    )


def _bytes(values: Values, key: str, default: int | None, *, lowest: int = 0) -> int | None:
    gigabytes = values.optional_number(key, lowest / GIB, _MAX_GB)
    return default if gigabytes is None else round(gigabytes * GIB)


def _tile_px(memory: Values) -> int | None:
    found = memory.take("tile_px")
    if found is None or found == _AUTO:
        return None
    if found == _WHOLE:
        return 0
    fits = type(found) is int and MIN_SIZE_PX <= found <= MAX_SIZE_PX
    if fits and found % SIZE_MULTIPLE_PX == 0:
        return found
    memory.refuse("tile_px", "is auto, whole or a side in pixels, a multiple of 16", _AUTO)
    return None


def _precision(
    values: Values, key: str, known: Iterable[Precision] = tuple(Precision)
) -> Precision:
    words = tuple(precision.value for precision in known)
    return Precision(values.word(key, words, Precision.AUTO.value))


def is_preset(data: bytes) -> bool:
    """Whether a file is a preset, perhaps broken or newer, and not some other TOML."""
    raw = _parsed(data, "", [])
    return any(isinstance(raw.get(title), dict) for title in ("memory", "precision", "limits"))


def preset_text(preset: Preset) -> str:
    """The preset as TOML, in the order people think of it; `read_preset` gives it back."""
    policy, limits = preset.policy, preset.limits
    document = tomlkit.document()
    document.add(tomlkit.comment(_HEAD))
    _put(document, "schema_version", preset.schema_version)
    _put(document, "name", preset.name)
    _put(document, "model", preset.model)
    gpu: dict[str, object] = {"name": preset.gpu_name, "vram_gb": _gigabytes(preset.vram_bytes)}
    tile_px = _AUTO if policy.tile_px is None else policy.tile_px or _WHOLE
    memory: dict[str, object] = {
        "mode": policy.mode.value,
        "headroom_gb": _gigabytes(policy.headroom_bytes),
        "limit_gb": _gigabytes(policy.limit_bytes),
        "ram_headroom_gb": _gigabytes(policy.ram_headroom_bytes),
        "tile_px": tile_px,
        "strict": policy.strict,
        "upscale_back": policy.upscale_back,
    }
    precision: dict[str, object] = {
        "text_encoder": policy.precisions.text_encoder.value,
        "transformer": policy.precisions.transformer.value,
        "autoencoder": policy.precisions.autoencoder.value,
    }
    most: dict[str, object] = {
        "max_side_px": limits.max_side_px,
        "max_pixels": limits.max_pixels,
        "max_images": limits.max_images,
    }
    defaults: dict[str, object] = {
        "attention": policy.attention.value,
        "compile": policy.compile or None,
        "steps": preset.steps,
        "guidance": preset.guidance,
    }
    for title, values, about in (
        ("gpu", gpu, "Which GPU it is for."),
        ("memory", memory, "What is left to others, and what may give way."),
        ("precision", precision, "Of each component's weights; auto lets the plan choose."),
        ("limits", most, "The most a request may ask for."),
        ("defaults", defaults, ""),
    ):
        _put_table(document, title, values, about)
    return tomlkit.dumps(document)


def renamed_text(text: str, name: str) -> str:
    """The same file with another name; everything else stays, comments and unknown keys too."""
    document = tomlkit.parse(text)
    document["name"] = name
    return tomlkit.dumps(document)


def _put_table(document: TOMLDocument, title: str, values: dict[str, object], about: str) -> None:
    if all(value is None for value in values.values()):
        return
    table: Table = tomlkit.table()
    if about:
        table.comment(about)
    for key, value in values.items():
        _put(table, key, value)
    document.add(tomlkit.nl())
    document.add(title, table)


def _put(target: TOMLDocument | Table, key: str, value: object) -> None:
    # TOML has no null: what is not there has its default.
    if value is not None:
        target.add(key, tomlkit.item(value))


def _gigabytes(size_bytes: int | None) -> float | None:
    """The shortest decimal number of GB that stands for exactly this many bytes."""
    if size_bytes is None:
        return None
    for decimals in range(1, _MAX_DECIMALS):
        short = round(size_bytes / GIB, decimals)
        if round(short * GIB) == size_bytes:
            return short
    return size_bytes / GIB

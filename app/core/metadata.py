"""What a picture says about how it was made: our record as JSON, and A1111's parameters text."""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from app.core.plan import PlanChange
from app.core.request import GenerationRequest
from app.core.run_report import PhaseReport, TakenRung

SCHEMA_VERSION = 1
RECORD_KEY = "headroom"
"""Keyword of the PNG chunk with the record."""
PARAMETERS_KEY = "parameters"
"""Keyword of the PNG chunk that AUTOMATIC1111-style readers look for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRecord:
    """A reference image a picture follows.

    Attributes:
        path: Of its file; below the user's own folder it begins with "~", because pictures are
            given away, and whose computer they were made on is nobody else's business.
        sha256: Of the file's content when it was read.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str, sha256: str) -> "ReferenceRecord":
        """About a file by its absolute path."""
        home = Path.home()
        if Path(path).is_relative_to(home):
            path = (Path("~") / Path(path).relative_to(home)).as_posix()
        return cls(path=path, sha256=sha256)

    def here(self) -> str:
        """Where the file would be on this computer."""
        if not self.path.startswith("~/"):
            return self.path
        return str(Path.home() / self.path.removeprefix("~/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """How one image was made.

    Attributes:
        request: What was asked for; its model is a known name, or a folder's name without the path,
            and its reference images are in `references`.
        schema_version: Of this record.
        app_version: Of Headroom.
        model_label: The model, for people.
        model_name: Known name such as "klein-4b"; None for other models.
        index: Of the image in its batch, from 0.
        seed: Of this image.
        seconds: Per phase, by the phase's value ("load", "encode", ...).
        peak_device_bytes: Largest allocation on the device; None on the CPU.
        peak_host_bytes: Largest resident memory of the engine process.
        created: Local time with offset, ISO 8601.
        made_width_px: Of the picture as it was made; 0 in records of older versions.
        made_height_px: Of the picture as it was made.
        resampled: Whether the picture was resampled from that size (Lanczos) to the one asked for.
        verdict: Of the plan, such as "fits".
        changes: Rungs of the plan, those of the run included.
        rungs: Taken during the run, in order.
        phases: Planned and measured memory and time, of all phases before saving.
        precisions: Of each component's weights as they ran, by its name.
        products: How weights of quantized components were multiplied, by the component's name:
            "dequantize", or by which of the device's own products in 8 bits.
        memory_mode: How eagerly weights stayed on the device, such as "auto".
        attention: What computed attention; "auto" where it is not known.
        compiled: Whether the repeated blocks were to be compiled.
        asked_precisions: Of each component as it was asked for, such as "auto"; empty in records
            of older versions.
        asked_attention: As it was asked for; "" in records of older versions.
        asked_tile_px: Side of decode tiles as in MemoryPolicy; None in records of older versions.
        references: Reference images the picture follows, in order.
    """

    request: GenerationRequest
    schema_version: int = SCHEMA_VERSION
    app_version: str = ""
    model_label: str = ""
    model_name: str | None = None
    index: int = 0
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    peak_device_bytes: int | None = None
    peak_host_bytes: int = 0
    created: str = ""
    made_width_px: int = 0
    made_height_px: int = 0
    resampled: bool = False
    verdict: str = ""
    changes: tuple[PlanChange, ...] = ()
    rungs: tuple[TakenRung, ...] = ()
    phases: tuple[PhaseReport, ...] = ()
    precisions: dict[str, str] = field(default_factory=dict[str, str])
    products: dict[str, str] = field(default_factory=dict[str, str])
    memory_mode: str = ""
    attention: str = ""
    compiled: bool = False
    asked_precisions: dict[str, str] = field(default_factory=dict[str, str])
    asked_attention: str = ""
    asked_tile_px: int | None = None
    references: tuple[ReferenceRecord, ...] = ()


def record_to_json(record: ImageRecord) -> str:
    """The record as JSON text."""
    request = replace(
        record.request,
        prompt=_without_surrogates(record.request.prompt),
        model=_without_surrogates(record.request.model),
        references=(),
    )
    label = _without_surrogates(record.model_label)
    return msgspec.json.encode(replace(record, request=request, model_label=label)).decode()


def record_from_json(text: str | bytes) -> ImageRecord | None:
    """The record in a JSON text.

    Keys of newer versions are ignored, and so are values that make no sense. None when the text is
    no record, or tells of a request that could never have been run: pictures come from anywhere.
    """
    # Pillow's texts are of a class of its own, which the decoder does not take.
    data = text if isinstance(text, bytes) else str(text)
    try:
        record = msgspec.json.decode(data, type=ImageRecord)
    except msgspec.ValidationError:
        record = _usable_part(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None if record is None or record.request.problems() else record


def _usable_part(data: str | bytes) -> ImageRecord | None:
    """The request with whatever else can be used: a value that is wrong costs only itself."""
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        request = msgspec.convert(raw.get("request"), type=GenerationRequest)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    record = ImageRecord(request=request)
    for name in {one.name for one in fields(ImageRecord)}.intersection(raw) - {"request"}:
        try:
            part = msgspec.convert({"request": raw["request"], name: raw[name]}, type=ImageRecord)
        except msgspec.ValidationError:
            continue
        record = replace(record, **{name: getattr(part, name)})
    return record


def parameters_text(record: ImageRecord) -> str:
    """The record as AUTOMATIC1111 writes it: the prompt, then one line of "Name: value" pairs."""
    request = record.request
    values = {
        "Steps": str(request.steps),
        "Sampler": "Euler",
        "CFG scale": str(request.guidance),
        "Seed": str(record.seed),
        "Size": _size_text(record),
        "Model": _without_surrogates(record.model_label),
        "Version": f"Headroom {record.app_version}".strip(),
    }
    pairs = ", ".join(f"{name}: {_quoted(value)}" for name, value in values.items() if value)
    # A zero byte would end a PNG text chunk early.
    prompt = _without_surrogates(request.prompt).replace("\0", "")
    return f"{prompt}\n{pairs}"


def _size_text(record: ImageRecord) -> str:
    """The picture's own size, which is not always the one asked for."""
    request = record.request
    if record.made_width_px and not record.resampled:
        return f"{record.made_width_px}x{record.made_height_px}"
    return f"{request.width_px}x{request.height_px}"


def _quoted(value: str) -> str:
    """Such readers split at commas and colons, except inside a JSON string."""
    if any(character in value for character in ',:\n"'):
        return json.dumps(value, ensure_ascii=False)
    return value


def _without_surrogates(text: str) -> str:
    """Half characters, which text fields and file names can hold, cannot be written as UTF-8."""
    return text.encode(errors="replace").decode()

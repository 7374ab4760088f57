"""Names of result files: a template with fields, safe on Windows and Linux."""

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from app.core.errors import RequestError

NAME_FIELDS: dict[str, str] = {
    "date": "Day, as 2026-11-21",
    "time": "Time, as 143005",
    "seed": "Seed of the image",
    "index": "Number in the batch, from 1",
    "model": "Model",
    "prompt": "Beginning of the prompt",
    "width": "Width in pixels",
    "height": "Height in pixels",
    "steps": "Denoising steps",
    "id": "Beginning of the job's id",
}
"""Fields of a template, and what they stand for."""
MAX_STEM_BYTES = 200
"""Leaves room for "-12345.png" below the 255 bytes that file systems allow."""
MAX_PROMPT_CHARACTERS = 60
_FIELD = re.compile(r"\{([^{}]*)\}")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# Turning around the direction of text can make a name look like another one.
_INVISIBLE = re.compile("[\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\..*)?", re.I | re.S
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFields:
    """What a template's fields are filled with.

    Attributes:
        created: Local time the image was made.
        seed: Of the image.
        index: Of the image in its batch, from 0.
        model: Name of the model, or of its folder.
        prompt: Whole prompt; its beginning is used.
        width_px: Of the image.
        height_px: Of the image.
        steps: Denoising steps.
        job_id: Whole id; its first eight characters are used.
    """

    created: datetime
    seed: int
    index: int
    model: str
    prompt: str
    width_px: int
    height_px: int
    steps: int
    job_id: str


def check_template(template: str) -> None:
    """Say what is wrong with a template, if anything.

    Raises:
        RequestError: It is empty, has an unknown field or a lone brace; the sentence says which.
    """
    if not template.strip():
        raise _template_error(
            "The file name template is empty: write a name such as {date}-{seed}."
        )
    for match in _FIELD.finditer(template):
        field = match.group(1)
        if field not in NAME_FIELDS:
            near = difflib.get_close_matches(field.strip().lower(), NAME_FIELDS, n=1)
            known = ", ".join(f"{{{name}}}" for name in NAME_FIELDS)
            hint = f"did you mean {{{near[0]}}}?" if near else f"known are {known}."
            raise _template_error(f"The file name template has no field {{{field}}}: {hint}")
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise _template_error(
            "The file name template has a brace without its partner: write fields as {seed}."
        )


def file_stem(template: str, fields: NameFields) -> str:
    """The file name, without suffix, that a template gives.

    Raises:
        RequestError: The template cannot be used.
    """
    check_template(template)
    values = {
        "date": f"{fields.created:%Y-%m-%d}",
        "time": f"{fields.created:%H%M%S}",
        "seed": str(fields.seed),
        "index": str(fields.index + 1),
        "model": fields.model,
        "prompt": " ".join(fields.prompt.split())[:MAX_PROMPT_CHARACTERS],
        "width": str(fields.width_px),
        "height": str(fields.height_px),
        "steps": str(fields.steps),
        "id": fields.job_id[:8],
    }
    return safe_stem(_FIELD.sub(lambda match: values[match.group(1)], template))


def safe_stem(text: str) -> str:
    """Any text as a file name without suffix that Windows and Linux take; scripts are kept."""
    text = unicodedata.normalize("NFC", text)
    text = _FORBIDDEN.sub("_", _INVISIBLE.sub("", text))
    text = "".join(
        character for character in text if unicodedata.category(character) not in {"Cc", "Cs"}
    )
    # Leading dots hide a file on Linux; Windows drops dots and spaces at the end by itself.
    text = text.strip().lstrip(". ")
    text = text.encode()[:MAX_STEM_BYTES].decode(errors="ignore").rstrip(". ")
    if not text:
        return "image"
    return f"_{text}" if _RESERVED.fullmatch(text) else text


def numbered(stem: str, first: int = 1) -> Iterator[str]:
    """The stem itself, then stem-2, stem-3 and so on, without end; from the `first` on."""
    for number in itertools.count(first):
        yield stem if number == 1 else f"{stem}-{number}"


def _template_error(message: str) -> RequestError:
    return RequestError(message, code="request.name_template")

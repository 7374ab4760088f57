"""What the user asks for: everything a picture depends on, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

SIZE_MULTIPLE_PX = 16
"""FLUX.2 packs 16x16 pixels into one image token (8x autoencoder, 2x2 patches)."""
MIN_SIZE_PX = 64
MAX_SIZE_PX = 8192
MAX_STEPS = 1000
MAX_IMAGES = 64
MAX_GUIDANCE = 100.0
MAX_SEED = 2**64 - 1
"""Largest seed torch.Generator.manual_seed takes."""
MAX_REFERENCES = 10
"""The most that the publisher's own playground takes; klein was made for 4, dev for 6
(https://docs.bfl.ai/guides/prompting_editing_overview)."""
REFERENCE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Of files that can be reference images, for file choosers and drops."""
MAX_PROMPT_TOKENS = 512
"""What FLUX.2 reads of a prompt (max_sequence_length of diffusers' pipelines); the rest is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One click on Generate.

    Attributes:
        prompt: What to draw; not empty.
        model: A known model name ("demo", "klein-4b", ...) or a folder's absolute path.
        width_px: Multiple of 16, 64 to 8192.
        height_px: Multiple of 16, 64 to 8192.
        steps: Denoising steps, 1 to 1000.
        guidance: Guidance scale, 0 to 100; distilled models ignore it.
        seed: Of the first image, 0 to 2**64 - 1; image i has seed + i.
        images: How many images, 1 to 64, denoised as one batch.
        references: Absolute paths of image files the picture is to follow, in order; at most 10.
            What is wrong with the files themselves, `app.core.reference_image` says.
    """

    prompt: str
    model: str = "demo"
    width_px: int = 128
    height_px: int = 128
    steps: int = 8
    guidance: float = 1.0
    seed: int = 0
    images: int = 1
    references: tuple[str, ...] = ()

    def problems(self) -> tuple["RequestProblem", ...]:
        """What keeps this request from being run; empty when nothing does."""
        found: list[RequestProblem] = []

        def check(field: str, code: str, message: str, *, ok: bool) -> None:
            if not ok:
                found.append(RequestProblem(field=field, code=code, message=message))

        check(
            "prompt",
            "request.prompt_empty",
            "The prompt is empty: type what you want to see.",
            ok=bool(self.prompt.strip()),
        )
        check(
            "prompt",
            "request.prompt_text",
            "The prompt holds half characters, which are no text: type or paste it again.",
            ok=is_text(self.prompt),
        )
        check(
            "model",
            "request.model_text",
            "The name of the model's folder holds bytes that are no text: rename the folder.",
            ok=is_text(self.model),
        )
        for field, value in (("width_px", self.width_px), ("height_px", self.height_px)):
            name = field.removesuffix("_px")
            check(
                field,
                "request.size",
                f"The {name} is {value} px: choose {MIN_SIZE_PX} to {MAX_SIZE_PX} px.",
                ok=MIN_SIZE_PX <= value <= MAX_SIZE_PX,
            )
            check(
                field,
                "request.size_multiple",
                f"The {name} is {value} px: it must be a multiple of {SIZE_MULTIPLE_PX}, "
                f"such as {rounded_size_px(value)}.",
                ok=value % SIZE_MULTIPLE_PX == 0,
            )
        check(
            "steps",
            "request.steps",
            f"Steps is {self.steps}: choose 1 to {MAX_STEPS}.",
            ok=1 <= self.steps <= MAX_STEPS,
        )
        check(
            "guidance",
            "request.guidance",
            f"Guidance is {self.guidance:g}: choose 0 to {MAX_GUIDANCE:g}.",
            ok=0.0 <= self.guidance <= MAX_GUIDANCE,
        )
        check(
            "seed",
            "request.seed",
            f"The seed is {self.seed}: choose 0 to {MAX_SEED}.",
            ok=0 <= self.seed <= MAX_SEED,
        )
        check(
            "images",
            "request.images",
            f"The number of images is {self.images}: choose 1 to {MAX_IMAGES}.",
            ok=1 <= self.images <= MAX_IMAGES,
        )
        check(
            "references",
            "request.references",
            f"There are {len(self.references)} reference images: choose at most {MAX_REFERENCES}.",
            ok=len(self.references) <= MAX_REFERENCES,
        )
        check(
            "references",
            "request.reference_text",
            "The name of a reference image holds bytes that are no text: rename the file.",
            ok=all(map(is_text, self.references)),
        )
        check(
            "references",
            "request.reference_path",
            "A reference image is named without its folder: give its whole path.",
            ok=all(Path(path).is_absolute() for path in self.references),
        )
        return tuple(found)

    def seed_of(self, index: int) -> int:
        """Seed of image `index` (from 0); wraps around after 2**64 - 1."""
        return (self.seed + index) % (MAX_SEED + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProblem:
    """Why a request cannot be run: the field's name, a stable code, one sentence."""

    field: str
    code: str
    message: str


def is_text(text: str) -> bool:
    """Whether all of it can be written as UTF-8.

    Arguments and names of files in another encoding, and text fields, can hold half characters.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def rounded_size_px(value_px: int) -> int:
    """The nearest size FLUX.2 can make: a multiple of 16 in range, ties going up."""
    rounded = (value_px + SIZE_MULTIPLE_PX // 2) // SIZE_MULTIPLE_PX * SIZE_MULTIPLE_PX
    return min(MAX_SIZE_PX, max(MIN_SIZE_PX, rounded))

"""Images that came out as no picture: never told as a success."""

from enum import Enum

from app.core.errors import EngineError
from app.core.request import GenerationRequest
from app.engine.run.decode import DecodedImage, Flaw


class Cause(Enum):
    """What went wrong, as the end of a sentence."""

    LATENTS = "denoising gave numbers that are not finite"
    PIXELS = "decoding gave numbers that are not finite"
    BLANK = "decoding gave the same colour everywhere"


class BadImages:
    """Which images of a request are none, and why."""

    def __init__(self, request: GenerationRequest, *, in_fp16: bool = False) -> None:
        """None so far.

        Args:
            request: Of the images.
            in_fp16: Whether the device has no bf16, so that networks trained in it run in fp16.
        """
        self._request = request
        self._in_fp16 = in_fp16
        self._found: dict[int, Cause] = {}

    def add_latents(self, index: int) -> None:
        """Image `index` was no picture before it was decoded."""
        self._found[index] = Cause.LATENTS

    def add_decoded(self, index: int, image: DecodedImage) -> None:
        """Image `index` came out of decoding as no picture."""
        self._found[index] = Cause.BLANK if image.flaw is Flaw.BLANK else Cause.PIXELS

    def check(self) -> None:
        """Look whether all images are pictures.

        Raises:
            EngineError: Some are not.
        """
        causes: list[str] = []
        for cause in Cause:
            seeds = [
                str(self._request.seed_of(index))
                for index, why in sorted(self._found.items())
                if why is cause
            ]
            if seeds:
                causes.append(f"for seed {', '.join(seeds)}, {cause.value}")
        if causes:
            remedy = (
                "try another seed or size; if it happens again, the model's files may be damaged"
            )
            if self._in_fp16:
                remedy = (
                    "this GPU computes in fp16, whose range is narrower than that of bf16, which "
                    "the model was made in; choose fp32 for its parts in a preset or with "
                    "--precision, or the CPU as the device"
                )
            raise EngineError(
                f"The model made no picture {'; '.join(causes)}: {remedy}.",
                code="engine.bad_image",
            )

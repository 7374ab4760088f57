"""The shape that attention is tried at."""

from dataclasses import dataclass

from app.core.request import MAX_PROMPT_TOKENS, SIZE_MULTIPLE_PX, GenerationRequest

TOKENS_STEP = 1024
"""Numbers of tokens up to the same multiple share a trial."""
MAX_TRIAL_TOKENS = 8192
"""More tokens are not tried: the order hardly changes, and a trial would take long and much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """One call of attention.

    Attributes:
        tokens: Of text and image together.
        heads: Of the attention.
        head_width: Channels of a head.
        dtype: As torch calls it, such as "bfloat16".
    """

    tokens: int
    heads: int
    head_width: int
    dtype: str

    @property
    def key(self) -> str:
        """The same for shapes that share a trial."""
        return f"{self.tokens}x{self.heads}x{self.head_width} {self.dtype}"

    @property
    def query_bytes(self) -> int:
        """Of the queries, and so of the keys, values and the result."""
        width_bytes = 4 if self.dtype == "float32" else 2
        return self.tokens * self.heads * self.head_width * width_bytes


def trial_shape(
    request: GenerationRequest, *, heads: int, head_width: int, dtype: str
) -> AttentionShape:
    """The shape at which kinds are tried for a request.

    Args:
        request: To be run.
        heads: Of the transformer's attention.
        head_width: Channels of a head.
        dtype: Attention is computed in.
    """
    rows = request.height_px // SIZE_MULTIPLE_PX
    tokens = MAX_PROMPT_TOKENS + rows * (request.width_px // SIZE_MULTIPLE_PX)
    rounded = -(-tokens // TOKENS_STEP) * TOKENS_STEP
    return AttentionShape(
        tokens=min(MAX_TRIAL_TOKENS, rounded),
        heads=heads,
        head_width=head_width,
        dtype=dtype,
    )

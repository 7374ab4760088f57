"""How many queries attention takes at once when it is computed in parts; arithmetic only."""

CHUNK_BYTES = 256 << 20
"""Of scores and weights of one part, at most; what grows with the tokens alone comes on top."""
SCORE_BYTES = 8
"""Of one query and key in one head: torch's math has the score and its weight, both in fp32."""
ROWS_MULTIPLE = 64
"""Matrix kernels work on tiles of such a height."""


def chunk_rows(*, batch: int, heads: int, keys: int, bound_bytes: int = CHUNK_BYTES) -> int:
    """Queries that are computed at once, at least one.

    Args:
        batch: Images at once.
        heads: Of the attention.
        keys: Tokens that each query looks at.
        bound_bytes: For the part's scores and weights.
    """
    rows = bound_bytes // (batch * heads * keys * SCORE_BYTES)
    if rows > ROWS_MULTIPLE:
        rows -= rows % ROWS_MULTIPLE
    return max(1, rows)


def chunk_bytes(
    *, batch: int, heads: int, tokens: int, head_width: int, bound_bytes: int = CHUNK_BYTES
) -> int:
    """Working memory of attention in parts, without its inputs and its output.

    Of low precision inputs, torch's math makes copies in fp32: of all keys and values (one of them
    scaled besides), and of a part's queries and result.

    Args:
        batch: Images at once.
        heads: Of the attention.
        tokens: Queries and keys.
        head_width: Channels of a head.
        bound_bytes: For a part's scores and weights.
    """
    rows = min(tokens, chunk_rows(batch=batch, heads=heads, keys=tokens, bound_bytes=bound_bytes))
    row_bytes = batch * heads * head_width * 4
    return rows * batch * heads * tokens * SCORE_BYTES + (3 * tokens + 4 * rows) * row_bytes

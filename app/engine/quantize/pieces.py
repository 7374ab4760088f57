"""How large the pieces are in which products with quantized weights are made; needs no torch."""

CHUNK_BYTES = 32 << 20
"""Intermediate results are made in pieces of about this size."""
_ROUND = 128
"""Pieces end where tiles of matrix units do."""
_SUM_BYTES = 4
"""Of an int32, and of the fp32 that takes its place."""


def piece(bytes_each: int, count: int) -> int:
    """Into how many at once a count is cut so that a piece takes about `CHUNK_BYTES`."""
    fits = CHUNK_BYTES // max(bytes_each, 1) // _ROUND * _ROUND
    return min(max(fits, _ROUND), max(count, 1))


def sums_piece(tokens: int, width: int) -> int:
    """How many columns of sums of a product in int8 are made at once.

    Args:
        tokens: Rows of the product.
        width: Columns of it.
    """
    return piece(_SUM_BYTES * tokens, width)


def sums_bytes(tokens: int, width: int) -> int:
    """What these take."""
    return _SUM_BYTES * tokens * sums_piece(tokens, width)

"""Sizes of a ratio."""

from app.core.request import MAX_SIZE_PX, SIZE_MULTIPLE_PX

SMALLEST_SIDE_PX = 256
"""No picture is made smaller than this by itself: FLUX.2 draws little of use below it."""


def sizes_of_ratio(
    width_px: int, height_px: int, *, from_px: int, to_px: int
) -> list[tuple[int, int]]:
    """Sizes of a ratio from small to large, as near to it as multiples of 16 allow.

    Args:
        width_px: Of the size whose ratio it is; that size itself is among them if in range.
        height_px: Of that size.
        from_px: Least length of the shorter side.
        to_px: Greatest length of the shorter side.
    """
    shorter_px, longer_px = sorted((width_px, height_px))
    first = -(-from_px // SIZE_MULTIPLE_PX) * SIZE_MULTIPLE_PX
    found: list[tuple[int, int]] = []
    for short_px in range(first, min(to_px, MAX_SIZE_PX) + 1, SIZE_MULTIPLE_PX):
        tokens = (2 * short_px * longer_px + shorter_px * SIZE_MULTIPLE_PX) // (
            2 * shorter_px * SIZE_MULTIPLE_PX
        )
        long_px = tokens * SIZE_MULTIPLE_PX
        if long_px > MAX_SIZE_PX:
            break
        found.append((short_px, long_px) if width_px <= height_px else (long_px, short_px))
    return found


def smaller_sizes(width_px: int, height_px: int) -> list[tuple[int, int]]:
    """Sizes of the same ratio that are smaller, from small to large."""
    shorter_px = min(width_px, height_px)
    return sizes_of_ratio(
        width_px, height_px, from_px=SMALLEST_SIDE_PX, to_px=shorter_px - SIZE_MULTIPLE_PX
    )

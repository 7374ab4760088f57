"""Judge a picture of a scene by its pixels and geometry, with no network.

The background is the median of the border. The shape is what differs from it; its colour is the
median of its inside; its place and size come from its outline; its kind is the template that
overlaps it best.
"""

from dataclasses import dataclass

import torch

from scripts.demo_model.shapes import COLOURS, POSITIONS, SHAPES, SIZES, Scene, signed_distance

MIN_OVERLAP = 0.72
"""Smallest intersection over union with the best template that still counts as that shape."""
SIZE_BOUNDARY = (SIZES["small"] + SIZES["big"]) / 2
MAX_COLOUR_DISTANCE = 90.0
"""Largest Euclidean RGB distance (0 to 441) at which a colour still counts as a palette colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is seen in a picture; None where nothing can be told."""

    colour: str | None
    background: str | None
    shape: str | None
    position: str | None
    size: str | None
    overlap: float = 0.0

    def matches(self, scene: Scene) -> bool:
        """Whether all five attributes are the scene's."""
        return (self.colour, self.background, self.shape, self.position, self.size) == (
            scene.colour,
            scene.background,
            scene.shape,
            scene.position,
            scene.size,
        )


def _nearest_colour(rgb: torch.Tensor) -> str | None:
    names = list(COLOURS)
    table = torch.tensor([COLOURS[name] for name in names], dtype=torch.float32)
    distances = (table - rgb).norm(dim=1)
    best = int(distances.argmin())
    return names[best] if float(distances[best]) <= MAX_COLOUR_DISTANCE else None


def _template_radius(shape: str, extent_x: float, extent_y: float) -> float:
    """Radius of a template from half the width and height of the mask, in pixels."""
    if shape == "square":
        return (extent_x + extent_y) / 2 / 0.86
    if shape == "diamond":
        return (extent_x + extent_y) / 2 / 1.1
    if shape == "triangle":
        return (extent_x + extent_y / 0.9) / 2
    return (extent_x + extent_y) / 2


def judge(picture: torch.Tensor) -> Verdict:
    """Say what a picture shows.

    Args:
        picture: (h, w, 3) values from 0 to 255, any dtype.

    Returns:
        The verdict; shape, position and size are None when no shape stands out.
    """
    picture = picture.to(torch.float32)
    height, width, _ = picture.shape
    border = torch.cat(
        [
            picture[:2].reshape(-1, 3),
            picture[-2:].reshape(-1, 3),
            picture[:, :2].reshape(-1, 3),
            picture[:, -2:].reshape(-1, 3),
        ]
    )
    paper = border.median(dim=0).values
    background = _nearest_colour(paper)
    difference = (picture - paper).norm(dim=2)
    strength = float(difference.flatten().topk(max(16, height * width // 400)).values.median())
    if strength < 40:
        return Verdict(colour=None, background=background, shape=None, position=None, size=None)
    mask = difference > strength / 2
    ink = picture[difference > strength * 0.8].median(dim=0).values
    rows, columns = mask.nonzero(as_tuple=True)
    # Quantiles keep single stray pixels from stretching the outline.
    left, right = (float(columns.float().quantile(q)) for q in (0.002, 0.998))
    top, bottom = (float(rows.float().quantile(q)) for q in (0.002, 0.998))
    extent_x, extent_y = (right - left + 1) / 2, (bottom - top + 1) / 2
    middle_x, middle_y = (left + right + 1) / 2, (top + bottom + 1) / 2
    grid_y, grid_x = torch.meshgrid(
        torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
    )
    best_shape, best_overlap, best_radius = "", 0.0, 0.0
    centre_y = middle_y
    for shape in SHAPES:
        radius = _template_radius(shape, extent_x, extent_y)
        # A triangle reaches from -r to 0.8 r, so its centre lies below the middle of its height.
        y = middle_y + 0.1 * radius if shape == "triangle" else middle_y
        template = signed_distance(shape, grid_x - middle_x, grid_y - y, radius) < 0
        union = int((template | mask).sum())
        overlap = int((template & mask).sum()) / union if union else 0.0
        if overlap > best_overlap:
            best_shape, best_overlap, best_radius, centre_y = shape, overlap, radius, y
    position = min(
        POSITIONS,
        key=lambda name: (
            (POSITIONS[name][0] - middle_x / width) ** 2
            + (POSITIONS[name][1] - centre_y / height) ** 2
        ),
    )
    return Verdict(
        colour=_nearest_colour(ink),
        background=background,
        shape=best_shape if best_overlap >= MIN_OVERLAP else None,
        position=position,
        size="small" if best_radius / min(width, height) < SIZE_BOUNDARY else "big",
        overlap=best_overlap,
    )

"""The demo model's world: one flat shape on a flat background, and how it is drawn.

A scene names what is in a picture; `render` draws it with signed distance functions, antialiased
over one pixel, so that a picture of any size has the same crisp edges.
"""

import hashlib
from dataclasses import dataclass

import torch

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (35, 160, 65),
    "blue": (40, 80, 220),
    "yellow": (248, 220, 45),
    "purple": (125, 45, 175),
    "orange": (245, 135, 25),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "cyan": (50, 210, 220),
    "pink": (250, 140, 190),
}
SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross")
SIZES: dict[str, float] = {"small": 0.13, "big": 0.24}
"""Half extent of the shape, as a fraction of the picture's shorter side."""
POSITIONS: dict[str, tuple[float, float]] = {
    "left": (0.28, 0.5),
    "right": (0.72, 0.5),
    "top": (0.5, 0.28),
    "bottom": (0.5, 0.72),
    "center": (0.5, 0.5),
}
"""Centre of the shape (x, y), as fractions of the picture's width and height."""

POSITION_JITTER = 0.01
SIZE_JITTER = 0.03
COLOUR_JITTER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a picture shows. Every field is a key of the tables above."""

    size: str
    colour: str
    shape: str
    position: str
    background: str


def is_held_out(scene: Scene) -> bool:
    """Whether training never sees this colour, shape and background (about one in eight)."""
    key = f"{scene.colour}/{scene.shape}/{scene.background}"
    return hashlib.sha256(key.encode()).digest()[0] % 8 == 0


def all_scenes() -> list[Scene]:
    """Every scene there is (5,400), held out or not, in a fixed order."""
    return [
        Scene(size=size, colour=colour, shape=shape, position=position, background=background)
        for size in SIZES
        for colour in COLOURS
        for shape in SHAPES
        for position in POSITIONS
        for background in COLOURS
        if background != colour
    ]


def signed_distance(
    shape: str, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor | float
) -> torch.Tensor:
    """Distance to the outline, negative inside, in the units of x, y and radius."""
    if shape == "circle":
        return torch.hypot(x, y) - radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.86 * radius
    if shape == "diamond":
        return (x.abs() + y.abs() - 1.1 * radius) * 0.70711
    if shape == "triangle":
        # Two slanted sides through (0, -r) and (+-r, 0.8 r), and the base below.
        slant = (x.abs() * 1.8 - (y + radius)) / 2.05913
        return torch.maximum(slant, y - 0.8 * radius)
    if shape == "ring":
        return (torch.hypot(x, y) - 0.76 * radius).abs() - 0.24 * radius
    if shape == "cross":
        wide = torch.maximum(x.abs() - radius, y.abs() - 0.3 * radius)
        tall = torch.maximum(x.abs() - 0.3 * radius, y.abs() - radius)
        return torch.minimum(wide, tall)
    raise ValueError(f"unknown shape {shape!r}")


def render(
    scene: Scene,
    *,
    width_px: int,
    height_px: int,
    generator: torch.Generator | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> torch.Tensor:
    """Draw one scene.

    Args:
        scene: What to draw.
        width_px: Width of the whole picture.
        height_px: Height of the whole picture.
        generator: Source of small variations in place, size and colour; None draws none.
        crop: (left, top, width, height) in pixels of the part to draw; None draws all of it.

    Returns:
        (3, h, w) float32 in [-1, 1].
    """
    jitter = torch.zeros(9) if generator is None else torch.rand(9, generator=generator) * 2.0 - 1.0
    left, top, crop_width, crop_height = crop or (0, 0, width_px, height_px)
    centre_x, centre_y = POSITIONS[scene.position]
    centre_x = (centre_x + POSITION_JITTER * float(jitter[0])) * width_px
    centre_y = (centre_y + POSITION_JITTER * float(jitter[1])) * height_px
    radius = SIZES[scene.size] * (1 + SIZE_JITTER * float(jitter[2])) * min(width_px, height_px)
    x = torch.arange(crop_width, dtype=torch.float32) + (left + 0.5 - centre_x)
    y = torch.arange(crop_height, dtype=torch.float32) + (top + 0.5 - centre_y)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    cover = (0.5 - signed_distance(scene.shape, grid_x, grid_y, radius)).clamp(0, 1)
    ink = torch.tensor(COLOURS[scene.colour]) + COLOUR_JITTER * jitter[3:6]
    paper = torch.tensor(COLOURS[scene.background]) + COLOUR_JITTER * jitter[6:9]
    ink = (ink.clamp(0, 255) / 127.5 - 1).view(3, 1, 1)
    paper = (paper.clamp(0, 255) / 127.5 - 1).view(3, 1, 1)
    return paper + (ink - paper) * cover

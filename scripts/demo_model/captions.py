"""Captions for scenes: the documented sentence most of the time, else a natural variation of it."""

import random

from scripts.demo_model.shapes import POSITIONS, Scene

CENTER_PLACES = ("at the center", "in the center", "in the middle", "at the centre", "centered")
OPENINGS = (
    "",
    "",
    "draw ",
    "please draw ",
    "paint ",
    "show me ",
    "I want ",
    "there is ",
    "a picture of ",
    "an image of ",
    "a drawing of ",
)
CENTER_WORDS = ("center", "middle", "centre")
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}


def canonical_caption(scene: Scene) -> str:
    """The sentence of the documentation, with every attribute."""
    return (
        f"a {scene.size} {scene.colour} {scene.shape} at the {scene.position} "
        f"on a {scene.background} background"
    )


def _place(scene: Scene, rng: random.Random) -> str:
    if scene.position == "center":
        return rng.choice(CENTER_PLACES)
    if scene.position in ("left", "right"):
        return rng.choice(
            (
                f"at the {scene.position}",
                f"on the {scene.position}",
                f"on the {scene.position} side",
                f"on the {scene.position} hand side",
                f"to the {scene.position}",
            )
        )
    return rng.choice(
        (
            f"at the {scene.position}",
            f"near the {scene.position}",
            f"on {scene.position}",
            f"in the {scene.position} part",
        )
    )


def _article(noun_phrase: str) -> str:
    return "an" if noun_phrase[0] in "aeiou" else "a"


def random_caption(scene: Scene, rng: random.Random) -> str:
    """A caption: half of them canonical, else reordered, reworded or with attributes left out."""
    canonical = rng.random() < 0.5
    caption = canonical_caption(scene) if canonical else _varied_caption(scene, rng)
    if rng.random() < 0.04:
        caption += rng.choice((", please", " please"))
    if rng.random() < 0.15:
        caption = caption[0].upper() + caption[1:]
    if rng.random() < 0.1:
        caption += rng.choice((".", ".", "!"))
    return caption


def _varied_caption(scene: Scene, rng: random.Random) -> str:
    size = "" if rng.random() < 0.25 else rng.choice((scene.size, *SIZE_WORDS[scene.size]))
    colour = "" if rng.random() < 0.08 else scene.colour
    shape = "shape" if rng.random() < 0.04 else scene.shape
    place = "" if rng.random() < 0.25 else _place(scene, rng)
    background = "" if rng.random() < 0.2 else scene.background
    noun = " ".join(word for word in (size, colour, shape) if word)
    style = rng.randrange(6)
    if style == 0:
        parts = [f"{_article(noun)} {noun}", place, f"on {background}" if background else ""]
        return " ".join(part for part in parts if part)
    if style == 1:
        lead = f"{_article(background)} {background} background with " if background else ""
        return " ".join(part for part in (f"{lead}{_article(noun)} {noun}", place) if part)
    if style == 2:
        lead = f"on a {background} background, " if background else ""
        return " ".join(part for part in (f"{lead}{_article(noun)} {noun}", place) if part)
    if style == 3:
        parts = [noun, place, f"{background} background" if background else ""]
        return ", ".join(part for part in parts if part)
    if style == 4 and place:
        behind = f" on a {background} background" if background else ""
        return f"{place}, {_article(noun)} {noun}{behind}"
    opening = rng.choice(OPENINGS)
    behind = ""
    if background:
        behind = rng.choice(
            (
                f" on a {background} background",
                f", {background} background",
                f" on {background}",
                f" against {background}",
                f" with a {background} background",
            )
        )
    return f"{opening}{_article(noun)} {noun}{' ' + place if place else ''}{behind}"


def caption_corpus(scenes: list[Scene], seed: int, count: int) -> list[str]:
    """Captions to train a tokenizer on, with every word the grammar can say."""
    rng = random.Random(seed)
    words = " ".join(POSITIONS)
    return [random_caption(rng.choice(scenes), rng) for _ in range(count)] + [words]

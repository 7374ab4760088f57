"""How far pictures decoded in tiles are from those decoded whole; writes bench/results.

    python bench/tiled_decode.py

The demo's autoencoder decodes pictures of its world, and mosaics of them, whole and in tiles with
several overlaps and ways to blend. Told are the signal-to-noise ratio (worst picture) and the seam:
by how many 8-bit levels the mean step across a line on which a tile or its blend begins or ends is
above that of the picture decoded whole.
"""

import itertools
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.paths import resource  # noqa: E402
from app.engine.tiling import BLEND, Blend, decode_latents, tile_starts  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from scripts.demo_model.shapes import Scene, all_scenes, render  # noqa: E402

CASES = {512: (384, 256, 128), 928: (768, 512, 256), 1024: (768, 512, 256)}
"""Tile sizes by size of the picture, in pixels; 928 px is where the overlaps differ most."""
SCALE = 8
MOSAIC_PX = 128
MOSAIC_SHIFT_PX = 44
OVERLAP_SHARES = (0.125, 0.25, 0.375)
MARGIN_SHARES = (0.0, 0.125, 0.25)
BLENDS = tuple(
    Blend(overlap_share=overlap, margin_share=margin, cosine=cosine)
    for overlap in OVERLAP_SHARES
    for margin in MARGIN_SHARES
    for cosine in (False, True)
)


class Remembering:
    """The autoencoder, which decodes the same latents only once."""

    def __init__(self, autoencoder: Any) -> None:  # noqa: ANN401 - untyped library
        self.config = autoencoder.config
        self._autoencoder = autoencoder
        self._decoded: list[tuple[torch.Tensor, torch.Tensor]] = []

    def decode(self, latents: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        """As the autoencoder does."""
        for known, pixels in self._decoded:
            if torch.equal(known, latents):
                return (pixels,)
        pixels = self._autoencoder.decode(latents, return_dict=return_dict)[0]
        self._decoded.append((latents.clone(), pixels))
        return (pixels,)


def pictures(size_px: int) -> list[torch.Tensor]:
    """A ring that most tiles have a part of, and two mosaics, (1, 3, size, size) each."""
    ring = Scene(size="big", colour="red", shape="ring", position="center", background="cyan")
    found = [render(ring, width_px=size_px, height_px=size_px)]
    scenes = all_scenes()
    count = math.ceil(size_px / MOSAIC_PX) + 1
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randint(len(scenes), (count, count), generator=generator)
        rows = [
            torch.cat(
                [render(scenes[int(n)], width_px=MOSAIC_PX, height_px=MOSAIC_PX) for n in row], -1
            )
            for row in numbers
        ]
        # So that the pieces' edges are not those of tiles.
        begin, end = MOSAIC_SHIFT_PX, MOSAIC_SHIFT_PX + size_px
        found.append(torch.cat(rows, -2)[:, begin:end, begin:end])
    return [picture[None] for picture in found]


def levels(pixels: torch.Tensor) -> torch.Tensor:
    """8-bit levels as they are saved."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round()


def psnr_db(one: torch.Tensor, other: torch.Tensor) -> float:
    """Peak signal-to-noise ratio."""
    error = float((levels(one) - levels(other)).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def border_lines(size_px: int, tile_px: int, blend: Blend) -> set[int]:
    """Where tiles, and the blends between them, begin and end."""
    tile = tile_px // SCALE
    starts = tile_starts(size_px // SCALE, tile, round(tile * blend.overlap_share))
    lines: set[int] = set()
    for before, after in itertools.pairwise(starts):
        begin, end = after * SCALE, (before + tile) * SCALE
        margin = int((end - begin) * blend.margin_share)
        lines |= {begin, begin + margin, end - margin, end}
    return lines


def seam_levels(tiled: torch.Tensor, whole: torch.Tensor, lines: set[int]) -> float:
    """The most that the mean step across one of the lines is above the picture's own."""
    excess: list[float] = []
    for line in lines:
        for dim in (-1, -2):
            steps = [
                levels(one).narrow(dim, line - 1, 2).diff(dim=dim).abs().mean()
                for one in (tiled, whole)
            ]
            excess.append(float(steps[0] - steps[1]))
    return max(excess)


def figures_of(
    autoencoder: Remembering,
    latents: torch.Tensor,
    whole: torch.Tensor,
    tile_px: int,
    blend: Blend,
) -> dict[str, float]:
    """What one picture lost by being decoded in tiles."""
    tiled = decode_latents(autoencoder, latents, tile_px=tile_px, blend=blend)
    return {
        "psnr_db": psnr_db(tiled, whole),
        "largest_levels": float((levels(tiled) - levels(whole)).abs().max()),
        "seam_levels": seam_levels(tiled, whole, border_lines(whole.shape[-1], tile_px, blend)),
    }


def results_for(autoencoder: Any, size_px: int) -> tuple[float, list[dict[str, Any]]]:  # noqa: ANN401 - untyped library
    """What the autoencoder itself loses of pictures of a size, and what tiles add."""
    originals = pictures(size_px)
    latents = [autoencoder.encode(picture).latent_dist.mode() for picture in originals]
    whole = [decode_latents(autoencoder, one) for one in latents]
    own_db = min(psnr_db(one, other) for one, other in zip(whole, originals, strict=True))
    results: list[dict[str, Any]] = []
    for tile_px in CASES[size_px]:
        decoders = [Remembering(autoencoder) for _ in originals]
        for blend in BLENDS:
            figures = [
                figures_of(*one, tile_px, blend)
                for one in zip(decoders, latents, whole, strict=True)
            ]
            results.append(
                {
                    "picture_px": size_px,
                    "tile_px": tile_px,
                    **asdict(blend),
                    "psnr_db": min(one["psnr_db"] for one in figures),
                    "largest_levels": max(one["largest_levels"] for one in figures),
                    "seam_levels": max(one["seam_levels"] for one in figures),
                }
            )
    return own_db, results


def row_of(result: dict[str, Any]) -> list[str]:
    """A line of the table."""
    return [
        f"{result['picture_px']} px in {result['tile_px']} px",
        f"{result['overlap_share']:.1%}",
        f"{result['margin_share']:.0%}",
        "cosine" if result["cosine"] else "line",
        f"{result['psnr_db']:.2f} dB",
        f"{result['largest_levels']:.0f}",
        f"{result['seam_levels']:.2f}",
    ]


def main() -> None:
    """Measure, print a table, write the result."""
    autoencoder: Any = AutoencoderKLFlux2.from_pretrained(resource("models/demo/vae")).eval()
    own: dict[str, float] = {}
    results: list[dict[str, Any]] = []
    with torch.no_grad():
        for size_px in CASES:
            own[f"{size_px} px"], found = results_for(autoencoder, size_px)
            results += found
    header = ["picture, tile", "overlap", "margin", "blend", "PSNR", "largest", "seam"]
    print(table(header, [row_of(result) for result in results]))
    print("the autoencoder itself:", own)
    figures = {"autoencoder_psnr_db": own, "chosen": asdict(BLEND), "tiled": results}
    path = write_result(
        "tiled_decode",
        figures,
        note="Demo autoencoder on the CPU in fp32; worst of three pictures; levels of 255.",
    )
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

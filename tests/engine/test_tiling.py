"""Tiles are of the size that was asked for, cover the picture, and leave no seam."""

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.jobs import Phase
from app.core.paths import resource
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Story
from app.engine.tiling import Blend, decode_latents, tile_starts
from scripts.demo_model.shapes import Scene, render

SIZE_PX = 128
TILE_PX = 64
SCALE = 8


@pytest.fixture(scope="module", autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def autoencoder() -> Any:
    return AutoencoderKLFlux2.from_pretrained(resource("models/demo/vae")).eval()


@pytest.fixture(scope="module")
def latents(autoencoder: Any) -> torch.Tensor:
    """Of a ring that every tile has a part of, and of a square."""
    scenes = [
        Scene(size="big", colour="red", shape="ring", position="center", background="cyan"),
        Scene(size="big", colour="white", shape="square", position="left", background="purple"),
    ]
    pictures = [render(scene, width_px=SIZE_PX, height_px=SIZE_PX) for scene in scenes]
    return autoencoder.encode(torch.stack(pictures)).latent_dist.mode()


@pytest.fixture(scope="module")
def whole(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    return decode_latents(autoencoder, latents)


class Repeater:
    """Stands for an autoencoder whose pixels are its first latents, enlarged; keeps the shapes."""

    config = SimpleNamespace(block_out_channels=(1, 1, 1, 1))

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def decode(self, latents: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        self.shapes.append(tuple(latents.shape))
        enlarged = latents[:, :3].repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
        return (enlarged,)


def test_whole_is_what_diffusers_decodes(autoencoder: Any, latents: torch.Tensor):
    expected = autoencoder.decode(latents, return_dict=False)[0]
    assert torch.equal(decode_latents(autoencoder, latents), expected)
    single = torch.cat([autoencoder.decode(one[None], return_dict=False)[0] for one in latents])
    assert torch.equal(decode_latents(autoencoder, latents, tile_px=SIZE_PX), single)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 300), tile=st.integers(2, 96), share=st.sampled_from([0.125, 0.25, 0.5])
)
def test_tiles_cover_a_side_and_overlap(length: int, tile: int, share: float):
    overlap = round(tile * share)
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] == length - tile
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(0 < step <= tile - overlap for step in steps)
    # One tile less could not cover it.
    assert (len(starts) - 1) * (tile - overlap) + overlap < length


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(1, 2),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    tile=st.integers(4, 16),
    blend=st.builds(
        Blend,
        overlap_share=st.sampled_from([0.25, 0.5]),
        margin_share=st.sampled_from([0.0, 0.25, 0.4]),
        cosine=st.booleans(),
    ),
)
def test_tiles_that_agree_give_the_picture_itself(
    images: int, height: int, width: int, tile: int, blend: Blend
):
    repeater = Repeater()
    latents = torch.arange(images * 4 * height * width).reshape(images, 4, height, width).float()
    pixels = decode_latents(repeater, latents, tile_px=tile * SCALE, blend=blend)
    assert torch.equal(pixels, Repeater().decode(latents, return_dict=False)[0])
    assert {shape[0] for shape in repeater.shapes} == {1}
    assert {shape[2:] for shape in repeater.shapes} == {(min(tile, height), min(tile, width))}


def levels(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.clamp(-1, 1) + 1) * 127.5


def test_tiled_is_close_to_whole(autoencoder: Any, latents: torch.Tensor, whole: torch.Tensor):
    tiled = decode_latents(autoencoder, latents, tile_px=TILE_PX)
    assert tiled.shape == whole.shape
    assert tiled.dtype == whole.dtype
    error = float((levels(tiled) - levels(whole)).square().mean())
    assert 10 * math.log10(255**2 / error) > 38


def seam(pixels: torch.Tensor, whole: torch.Tensor, *, overlap: int) -> float:
    """By how much the mean step across a line on which a tile begins or ends is above the own one.

    Args:
        pixels: Decoded in tiles.
        whole: The same picture.
        overlap: Of the tiles, in latents.

    Returns:
        8-bit levels, of the worst line.
    """
    starts = tile_starts(SIZE_PX // SCALE, TILE_PX // SCALE, overlap)
    lines = {start * SCALE for start in starts} | {start * SCALE + TILE_PX for start in starts}
    excess = [0.0]
    for line in lines - {0, SIZE_PX}:
        for dim in (-1, -2):
            steps = [
                levels(one).narrow(dim, line - 1, 2).diff(dim=dim).abs().mean()
                for one in (pixels, whole)
            ]
            excess.append(float(steps[0] - steps[1]))
    return max(excess)


def test_no_seam_shows(autoencoder: Any, latents: torch.Tensor, whole: torch.Tensor):
    tiled = decode_latents(autoencoder, latents, tile_px=TILE_PX)
    assert seam(tiled, whole, overlap=2) < 0.25
    # The same tiles side by side do show.
    cut = decode_latents(autoencoder, latents, tile_px=TILE_PX, blend=Blend(overlap_share=0))
    assert seam(cut, whole, overlap=0) > 1


def test_a_device_holds_one_tile_at_a_time(autoencoder: Any, latents: torch.Tensor):
    device = SimulatedDevice(Story(capacity_bytes=1 << 40))
    part = latents[:1, :, : TILE_PX // SCALE, : TILE_PX // SCALE]
    with device.watch(Phase.DECODE):
        autoencoder.decode(part, return_dict=False)
    one_tile_bytes = device.peak_bytes()
    device.reset_peak()
    with device.watch(Phase.DECODE):
        pixels = decode_latents(autoencoder, latents[:1], tile_px=TILE_PX, device=device)
    assert device.peak_bytes() == one_tile_bytes
    assert device.allocated_bytes() == 0
    assert torch.equal(pixels, decode_latents(autoencoder, latents[:1], tile_px=TILE_PX))


def test_tensors_without_data_can_be_decoded_in_tiles():
    repeater = Repeater()
    latents = torch.empty(1, 16, 32, 20, device="meta")
    assert decode_latents(repeater, latents, tile_px=64).shape == (1, 3, 256, 160)


def test_half_precision_is_kept():
    latents = torch.randn(1, 4, 20, 20, generator=torch.Generator().manual_seed(1)).bfloat16()
    pixels = decode_latents(Repeater(), latents, tile_px=64)
    assert pixels.dtype is torch.bfloat16
    assert torch.equal(pixels, Repeater().decode(latents, return_dict=False)[0])


class Flags:
    """Stands for an autoencoder whose tiles are black and white in turn."""

    config = SimpleNamespace(block_out_channels=(1, 1, 1, 1))

    def __init__(self) -> None:
        self._next = 0.0

    def decode(self, latents: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        colour, self._next = self._next, 1 - self._next
        height, width = latents.shape[-2:]
        return (torch.full((1, 3, height * SCALE, width * SCALE), colour),)


def test_one_tile_goes_over_into_the_next_in_half_a_wave():
    """A line has corners at its ends, which are seen."""
    latents = torch.zeros(1, 4, 8, 14)
    pixels = decode_latents(Flags(), latents, tile_px=TILE_PX)
    overlap = TILE_PX // 4
    begin = 6 * SCALE
    wave = [(1 - math.cos(math.pi * (x + 0.5) / overlap)) / 2 for x in range(overlap)]
    row = [0.0] * begin + wave + [1.0] * begin
    assert pixels.shape == (1, 3, TILE_PX, len(row))
    assert torch.allclose(pixels, torch.tensor(row).expand_as(pixels), atol=1e-6)

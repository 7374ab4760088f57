"""Previews: colours close to the autoencoder's own, from latents alone."""

import numpy as np
import pytest
import torch

from app.engine.compute_device import CpuDevice
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_folder import inspect_model_folder
from app.engine.preview import estimate_clean, fit_preview_matrix, preview_of
from tests.tiny_models import LATENT_CHANNELS, make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_tiny_model("klein", tmp_path_factory.mktemp("klein"))
    return load_model(
        inspect_model_folder(folder), model_key(folder), torch.device("cpu"), lambda: None
    )


def grid_of(model: LoadedModel, picture: torch.Tensor) -> torch.Tensor:
    """A picture (1, 3, h, w) as it is denoised: (channels * 4, h / 16, w / 16)."""
    pipeline = model.pipeline
    with torch.no_grad():
        latents = pipeline._patchify_latents(pipeline.vae.encode(picture).latent_dist.mode())
    bn = pipeline.vae.bn
    mean = bn.running_mean.view(1, -1, 1, 1)
    deviation = torch.sqrt(bn.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps)
    return ((latents - mean) / deviation)[0]


def test_matrix_turns_latents_back_into_the_colours_they_came_from(model: LoadedModel) -> None:
    model.preview_matrix = fit_preview_matrix(model, CpuDevice())
    assert model.preview_matrix.shape == (LATENT_CHANNELS + 1, 3)
    # Left red, right blue, in a size that is not square.
    picture = torch.full((1, 3, 64, 96), -0.8)
    picture[:, 0, :, :48] = 0.8
    picture[:, 2, :, 48:] = 0.8

    preview = preview_of(model, grid_of(model, picture))

    assert (preview.width_px, preview.height_px) == (12, 8)
    pixels = np.frombuffer(preview.rgb, np.uint8).reshape(8, 12, 3).astype(int)
    left, right = pixels[:, :5].mean(axis=(0, 1)), pixels[:, 7:].mean(axis=(0, 1))
    assert left[0] > right[0] + 20
    assert right[2] > left[2] + 20


def test_numbers_that_are_not_finite_give_a_picture_all_the_same(model: LoadedModel) -> None:
    model.preview_matrix = fit_preview_matrix(model, CpuDevice())
    grid = torch.full((LATENT_CHANNELS * 4, 4, 4), float("nan"))
    assert len(preview_of(model, grid).rgb) == 8 * 8 * 3


def test_clean_estimate_is_exact_where_the_direction_is_kept() -> None:
    clean, noise = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])

    def at(sigma: float) -> torch.Tensor:
        return (1 - sigma) * clean + sigma * noise

    assert torch.allclose(estimate_clean(at(1.0), at(0.6), 1.0, 0.6), clean, atol=1e-6)
    assert torch.allclose(estimate_clean(at(0.6), at(0.0), 0.6, 0.0), clean, atol=1e-6)
    assert torch.equal(estimate_clean(noise, noise, 0.5, 0.5), noise)

"""What is no picture is never told as one: the cause is named, and what can be saved is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

from app.core.errors import EngineError
from app.core.events import ImageDone, JobFailed, JobFinished, StepDone
from app.core.jobs import Job
from app.core.policy import Precision
from app.core.request import GenerationRequest
from app.engine.compute_device import CpuDevice
from app.engine.run.bad_images import BadImages
from app.engine.run.decode import DecodedImage, Flaw
from tests.engine_process import make_job
from tests.engine_runs import FULL, POLICY, Runs, of_kind, pixels, same, simulated

pytestmark = pytest.mark.usefixtures("quick_forecasts")


def job(model: Path, out: Path, **request: Any) -> Job:
    values = {"steps": 2, "guidance": 4.0, "seed": 7, **request}
    return replace(make_job(model, out, **values), policy=POLICY, previews=False)


Decode = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


def patch_decode(monkeypatch: pytest.MonkeyPatch, change: Decode) -> list[int]:
    """Change what autoencoders give; one entry for each time that they decode."""
    decode = AutoencoderKLFlux2.decode
    decoded: list[int] = []

    def changed(network: Any, latents: Any, **named: Any) -> tuple[torch.Tensor]:
        decoded.append(len(latents))
        (pixels,) = decode(network, latents, **named)
        return (change(network, latents, pixels),)

    monkeypatch.setattr(AutoencoderKLFlux2, "decode", changed)
    return decoded


def test_numbers_that_a_gpu_cannot_hold_are_decoded_once_more_by_the_cpu(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = pixels(Runs(simulated()).run(job(model, tmp_path / "expected", images=2)))

    def overflow(network: Any, _latents: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Half precision overflows in the second image."""
        if network.dtype is torch.float32:
            return out
        out = out.clone()
        out[-1, 0, 0, 0] = torch.inf
        return out

    decoded = patch_decode(monkeypatch, overflow)
    half = replace(FULL, autoencoder=Precision.BF16)
    asked = job(model, tmp_path / "out", images=2)
    events = Runs(simulated()).run(replace(asked, policy=replace(POLICY, precisions=half)))
    assert isinstance(events[-1], JobFinished), events[-1]
    found = pixels(events)
    assert found.keys() == expected.keys()
    # The weights themselves were rounded when they were loaded.
    assert same({1: found[1]}, {1: expected[1]}, levels=3)
    assert not same({0: found[0]}, {0: expected[0]})  # That one was good as it was.
    # Denoising was not done again.
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2]
    assert decoded == [2, 1]


def test_a_cpu_in_full_precision_is_not_asked_twice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = Runs(CpuDevice())
    decoded = patch_decode(monkeypatch, lambda _network, _latents, out: out * torch.nan)
    failed = runs.run(job(model, tmp_path))[-1]
    assert isinstance(failed, JobFailed)
    assert "seed 7, decoding gave numbers that are not finite" in failed.error.message
    assert decoded == [1]


def test_one_colour_is_told_as_that_and_the_others_are_saved(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def grey_second(_network: Any, _latents: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[-1] = 0.25
        return out

    patch_decode(monkeypatch, grey_second)
    events = Runs(CpuDevice()).run(job(model, tmp_path, images=2))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.bad_image"
    assert "for seed 8, decoding gave the same colour everywhere: try" in failed.error.message
    assert [one.index for one in of_kind(events, ImageDone)] == [0]


def test_on_a_gpu_without_bf16_another_precision_is_the_remedy():
    bad = BadImages(GenerationRequest(model="m", prompt="p", seed=7, images=1), in_fp16=True)
    bad.add_latents(0)
    with pytest.raises(EngineError, match="choose fp32") as caught:
        bad.check()
    assert "damaged" not in str(caught.value)


def test_each_cause_has_its_own_words():
    bad = BadImages(GenerationRequest(model="m", prompt="p", seed=7, images=4))
    bad.check()
    bad.add_decoded(3, DecodedImage(rgb=None, flaw=Flaw.BLANK))
    bad.add_decoded(1, DecodedImage(rgb=None, flaw=Flaw.NOT_FINITE))
    bad.add_latents(2)
    bad.add_latents(0)
    with pytest.raises(Exception, match="no picture") as caught:
        bad.check()
    assert str(caught.value).startswith(
        "The model made no picture for seed 7, 9, denoising gave numbers that are not finite; "
        "for seed 8, decoding gave numbers that are not finite; "
        "for seed 10, decoding gave the same colour everywhere: try another seed or size;"
    )

"""The engine's pictures are those of diffusers' own pipelines, bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.core.request import MAX_SEED, GenerationRequest
from app.engine import pipeline, text_encoding
from app.engine.cancel import CancelFlag, CancelPoints, CancelRequestedError
from app.engine.compute_device import CpuDevice
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_folder import inspect_model_folder
from app.engine.preview import fit_preview_matrix
from app.engine.run.decode import decode
from app.engine.run.denoise import DenoiseTask, Step, denoise
from tests.reference_pipeline import diffusers_pictures, reference_pipeline
from tests.tiny_models import Kind, make_tiny_model

KINDS: tuple[Kind, ...] = ("klein", "klein-base", "dev")
CPU = torch.device("cpu")
DEVICE = CpuDevice()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loaded tiny models by kind and precision, made when first asked for."""
    made: dict[tuple[Kind, torch.dtype], LoadedModel] = {}

    def get(kind: Kind, dtype: torch.dtype = torch.float32) -> LoadedModel:
        if (kind, dtype) not in made:
            folder = make_tiny_model(kind, tmp_path_factory.mktemp(kind), dtype=dtype)
            made[kind, dtype] = load(folder)
        return made[kind, dtype]

    return get


def load(folder: Path) -> LoadedModel:
    return load_model(inspect_model_folder(folder), model_key(folder), CPU, lambda: None)


def request(**values: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {
        "prompt": "a small red circle, at the top",
        "width_px": 96,
        "height_px": 160,
        "steps": 3,
        "guidance": 4.0,
        "seed": 7,
    }
    return GenerationRequest(**{**defaults, **values})


def task_of(model: LoadedModel, request: GenerationRequest) -> DenoiseTask:
    return DenoiseTask(
        request=request,
        embeddings=pipeline.encode(model, pipeline.prompts_to_encode(model, request), DEVICE),
        latents=pipeline.noise(model, request, range(request.images)),
    )


def steps_of(model: LoadedModel, task: DenoiseTask, *, previews: bool = False) -> list[Step]:
    steps: list[Step] = []
    denoise(model, task, DEVICE, previews=previews, on_step=steps.append)
    return steps


def generate(model: LoadedModel, request: GenerationRequest) -> list[np.ndarray]:
    latents = steps_of(model, task_of(model, request), previews=True)[-1].latents
    return [
        np.frombuffer(image.rgb, np.uint8).reshape(request.height_px, request.width_px, 3)
        for image in decode(model, latents, DEVICE)
        if image.rgb is not None
    ]


def diffusers_generate(model: LoadedModel, request: GenerationRequest) -> list[np.ndarray]:
    """What a user of diffusers gets, from a pipeline loaded by diffusers."""
    return diffusers_pictures(model.info.folder, request, out_layers=model.info.text_out_layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [(64, 64), (96, 160)], ids=["square", "tall"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_diffusers_bit_for_bit(
    models: Any, kind: Kind, images: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    model = models(kind, dtype)
    model.preview_matrix = fit_preview_matrix(model, DEVICE)
    width, height = size
    wanted = request(images=images, width_px=width, height_px=height)

    ours, theirs = generate(model, wanted), diffusers_generate(model, wanted)

    assert len(ours) == len(theirs) == images
    for mine, reference in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, reference)
    # Otherwise it would be no wonder.
    assert all(image.std() > 5 for image in theirs)


@pytest.mark.parametrize("kind", ["klein", "dev"])
def test_deep_text_encoders_are_read_at_the_layers_diffusers_reads(
    kind: Kind, tmp_path: Path
) -> None:
    model = load(make_tiny_model(kind, tmp_path / kind, deep=True))
    wanted = request(width_px=64, height_px=64, guidance=1.0)

    theirs = reference_pipeline(model.info.folder)(
        prompt=wanted.prompt,
        width=64,
        height=64,
        num_inference_steps=wanted.steps,
        guidance_scale=1.0,
        generator=[torch.Generator("cpu").manual_seed(wanted.seed)],
    ).images[0]

    assert np.array_equal(generate(model, wanted)[0], np.asarray(theirs))


def test_guidance_of_1_skips_the_second_prompt_of_klein_base(models: Any) -> None:
    model = models("klein-base")
    plain, guided = request(guidance=1.0), request(guidance=4.0)
    assert pipeline.prompts_to_encode(model, plain) == (plain.prompt,)
    assert pipeline.prompts_to_encode(model, guided) == (guided.prompt, "")
    assert np.array_equal(generate(model, plain)[0], diffusers_generate(model, plain)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_a_batch_is_the_same_alone_within_one_level(models: Any, kind: Kind) -> None:
    model = models(kind)
    batch = generate(model, request(images=3, width_px=64, height_px=64))
    for index in range(3):
        alone = generate(model, request(seed=7 + index, width_px=64, height_px=64))[0]
        difference = np.abs(batch[index].astype(int) - alone.astype(int))
        assert difference.max() <= 1


@pytest.mark.parametrize("seed", [2**32, 2**63, MAX_SEED])
def test_64_bit_seeds_give_what_diffusers_gives(models: Any, seed: int) -> None:
    model = models("klein")
    wanted = request(seed=seed, width_px=64, height_px=64)
    assert np.array_equal(generate(model, wanted)[0], diffusers_generate(model, wanted)[0])


def test_seeds_of_a_batch_wrap_around_after_the_largest(models: Any) -> None:
    model = models("klein")
    batch = generate(model, request(seed=MAX_SEED, images=2, width_px=64, height_px=64))
    zero = generate(model, request(seed=0, width_px=64, height_px=64))[0]
    assert np.abs(batch[1].astype(int) - zero.astype(int)).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_text_encoder_rests_when_a_prompt_comes_again(kind: Kind, tmp_path: Path) -> None:
    model = load(make_tiny_model(kind, tmp_path / kind))
    runs: list[None] = []
    model.pipeline.text_encoder.register_forward_hook(lambda *_: runs.append(None))
    per_prompt = 2 if kind == "klein-base" else 1

    first = generate(model, request())
    assert len(runs) == per_prompt
    again = generate(model, request())
    assert len(runs) == per_prompt
    generate(model, request(prompt="a green square"))
    # The prompt that guidance pushes away from is always the same.
    assert len(runs) == per_prompt + 1
    assert np.array_equal(first[0], again[0])


class Gpu(CpuDevice):
    """A GPU as far as the choice of attention goes."""

    kind = "cuda"


@pytest.mark.parametrize(("device", "with_cudnn"), [(Gpu(), False), (CpuDevice(), True)])
def test_prompts_are_encoded_without_cudnn_s_attention(
    device: CpuDevice, with_cudnn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(make_tiny_model("klein", tmp_path))
    plain = pipeline.encode_prompt(model.pipeline, model.info, "a ring")
    enabled: list[bool] = []

    def encode_prompt(*asked: Any) -> torch.Tensor:
        enabled.append(torch.backends.cuda.cudnn_sdp_enabled())
        return text_encoding.encode_prompt(*asked)

    monkeypatch.setattr(pipeline, "encode_prompt", encode_prompt)
    (made,) = pipeline.encode(model, ("a ring",), device)
    assert enabled == [with_cudnn]
    assert torch.equal(made, plain)
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("kind", KINDS)
def test_previews_come_with_each_step_and_do_not_change_the_image(models: Any, kind: Kind) -> None:
    model = models(kind)
    model.preview_matrix = fit_preview_matrix(model, DEVICE)
    task = task_of(model, request(steps=4))
    with_previews = steps_of(model, task, previews=True)
    without = steps_of(model, task)

    assert torch.equal(with_previews[-1].latents, without[-1].latents)
    assert [step.number for step in with_previews] == [1, 2, 3, 4]
    assert all(step.total == 4 and step.seconds > 0 for step in with_previews)
    assert all(step.preview is None for step in without)
    for step in with_previews:
        assert step.preview is not None
        assert (step.preview.width_px, step.preview.height_px) == (96 // 8, 160 // 8)
        assert len(step.preview.rgb) == 96 // 8 * (160 // 8) * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_any_step_gives_the_same_bits(
    models: Any, kind: Kind, dtype: torch.dtype
) -> None:
    model = models(kind, dtype)
    model.preview_matrix = fit_preview_matrix(model, DEVICE)
    task = task_of(model, request(steps=7, images=2))
    whole = steps_of(model, task, previews=True)
    for done in range(1, 7):
        later = replace(task, latents=whole[done - 1].latents, step=done)
        rest = steps_of(model, later, previews=True)
        assert [step.number for step in rest] == list(range(done + 1, 8))
        for mine, step in zip(rest, whole[done:], strict=True):
            assert torch.equal(mine.latents, step.latents)
            assert mine.preview == step.preview
    assert steps_of(model, replace(task, latents=whole[-1].latents, step=7)) == []


def test_a_flag_stops_denoising_inside_a_step(models: Any, tmp_path: Path) -> None:
    model = load(make_tiny_model("klein", tmp_path))
    points = CancelPoints()
    points.watch(model.pipeline.transformer)
    steps: list[Step] = []

    def stop_after_first(step: Step) -> None:
        steps.append(step)
        points.flag.set()

    with pytest.raises(CancelRequestedError):
        denoise(model, task_of(model, request()), DEVICE, previews=False, on_step=stop_after_first)
    assert len(steps) == 1

    points.flag = CancelFlag()
    assert len(generate(model, request())) == 1


def test_an_image_with_a_number_that_is_not_finite_is_none(models: Any) -> None:
    model = models("klein")
    latents = torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    latents[1, 0, 0, 0] = float("nan")
    good, bad = decode(model, latents, DEVICE)
    assert good.rgb is not None
    assert bad.rgb is None


def test_a_blank_image_is_none(tmp_path: Path) -> None:
    model = load(make_tiny_model("klein", tmp_path))
    with torch.no_grad():
        model.pipeline.vae.decoder.conv_out.weight.zero_()
        model.pipeline.vae.decoder.conv_out.bias.zero_()
    (image,) = decode(model, torch.randn(1, 32, 4, 4), DEVICE)
    assert image.rgb is None

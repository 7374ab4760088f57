"""The dry run against real tensors, and the coefficients against the dry run."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from PIL import Image

from app.core.paths import resource
from app.core.policy import Attention, Precision
from app.core.request import GenerationRequest
from app.engine.attention.dispatch import use_attention
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.compute_device import CpuDevice
from app.engine.forecast.dry_run import DryRun
from app.engine.forecast.fused_kernels import FusedKernels
from app.engine.forecast.model_forecast import forecast_model
from app.engine.forecast.model_spec import ModelSpec, known_spec, spec_of
from app.engine.forecast.networks import tensors_of
from app.engine.forecast.parts import WAYS
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.live_storages import block_bytes
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_folder import GuidanceKind, inspect_model_folder
from app.engine.one_kernel import OneKernel
from app.engine.pipeline import encode, noise, prompts_to_encode
from app.engine.request_counts import reference_size
from app.engine.run.decode import decode
from app.engine.run.denoise import DenoiseTask, denoise
from app.engine.simulated_accounts import Accounts
from tests.tiny_models import Kind, make_tiny_model

UNDER = 0.01
OVER = 0.01
SIZES = ((1, 1024, 1024), (2, 592, 1104), (1, 64, 64))


class Unheeded:
    """Operations of a device that has room for all of them."""

    def begin(self) -> None: ...

    def finish(self, new_bytes: int, flops: int) -> None: ...

    def is_missing(self, tensor: torch.Tensor) -> bool:
        return False


def real_peak(call: Callable[[], object]) -> int:
    """Peak of what real tensors on the CPU take, with a GPU's fused kernels counted as such."""
    accounts = Accounts(Unheeded())
    with torch.no_grad(), OneKernel(accounts.run_as_one), accounts:
        call()
    return accounts.peak_bytes


def dry_peak(call: Callable[[], object]) -> int:
    storages = PhaseStorages()
    with torch.no_grad(), FusedKernels(), storages:
        call()
    return storages.peak_bytes


def transformer_call(network: Any, device: str, images: int, tokens: int) -> Callable[[], object]:
    config = network.config

    def call() -> object:
        return network(
            hidden_states=torch.zeros(images, tokens, config.in_channels, device=device),
            timestep=torch.zeros(images, device=device),
            guidance=torch.zeros(images, device=device) if config.guidance_embeds else None,
            encoder_hidden_states=torch.zeros(
                images, 512, config.joint_attention_dim, device=device
            ),
            img_ids=torch.zeros(images, tokens, 4, dtype=torch.int64, device=device),
            txt_ids=torch.zeros(images, 512, 4, dtype=torch.int64, device=device),
            return_dict=False,
        )

    return call


def decode_call(network: Any, device: str, images: int, side: int) -> Callable[[], object]:
    channels = network.config.latent_channels
    return lambda: network.decode(torch.zeros(images, channels, side, side, device=device))


def encode_call(network: Any, device: str, images: int, side: int) -> Callable[[], object]:
    return lambda: network.encode(torch.zeros(images, 3, side * 8, side * 8, device=device))


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return loaded(resource("models/demo"))


def loaded(folder: Path) -> LoadedModel:
    info = inspect_model_folder(folder)
    return load_model(info, model_key(folder), torch.device("cpu"), lambda: None)


@pytest.fixture(scope="module", params=["demo", "klein-base", "dev"])
def model(
    request: pytest.FixtureRequest, demo: LoadedModel, tmp_path_factory: pytest.TempPathFactory
) -> LoadedModel:
    if request.param == "demo":
        return demo
    kind: Kind = request.param
    return loaded(make_tiny_model(kind, tmp_path_factory.mktemp(kind)))


@pytest.mark.parametrize("images", [1, 3])
def test_networks_on_tensors_without_data_take_what_real_ones_take(
    model: LoadedModel, images: int
) -> None:
    run = DryRun(spec_of(model.info), Precision.FP32)
    pairs = (
        (transformer_call, model.pipeline.transformer, run.networks.transformer, 64),
        (decode_call, model.pipeline.vae, run.networks.autoencoder, 20),
        (encode_call, model.pipeline.vae, run.networks.autoencoder, 20),
    )
    for call, real, dry, size in pairs:
        expected = real_peak(call(real, "cpu", images, size))
        assert dry_peak(call(dry, "meta", images, size)) == expected


def test_phases_of_the_engine_take_what_the_dry_run_says(model: LoadedModel) -> None:
    device = CpuDevice()
    guidance = 4.0 if model.info.guidance is GuidanceKind.CFG else 1.0
    request = GenerationRequest(
        prompt="a dot", width_px=384, height_px=320, steps=3, images=2, guidance=guidance
    )
    size: dict[str, Any] = {"images": 2, "width_px": 384, "height_px": 320}
    embeddings = encode(model, prompts_to_encode(model, request), device)
    latents = noise(model, request, [0, 1])
    run = DryRun(spec_of(model.info), Precision.FP32)

    def steps() -> None:
        task = DenoiseTask(
            request=request,
            # Copies, as on a GPU.
            embeddings=[one.clone() for one in embeddings],
            latents=latents.clone(),
        )
        denoise(model, task, device, previews=False, on_step=lambda _step: None)

    dry = run.denoise(**size).working_bytes
    # What the engine keeps of latents in RAM is in the memory that is counted here.
    kept = 3 * latents.nbytes
    assert 0.99 * dry <= real_peak(steps) <= 1.01 * dry + kept
    decoded = real_peak(lambda: decode(model, latents.clone(), device))
    assert decoded == pytest.approx(run.decode(**size).working_bytes, rel=0.01)


def test_text_encoder_takes_what_the_dry_run_says(model: LoadedModel) -> None:
    # The prompts before are in the model's memory of prompts.
    call = lambda: encode(model, ["something that was never encoded"], CpuDevice())  # noqa: E731
    run = DryRun(spec_of(model.info), Precision.FP32)
    measured = run.encode().working_bytes
    assert real_peak(call) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("name", ["klein-4b", "dev"])
def test_two_blocks_of_each_kind_have_the_peak_of_all(name: str) -> None:
    spec = known_spec(name)
    size: dict[str, Any] = {
        "images": 2,
        "width_px": 592,
        "height_px": 1104,
        "references": [(512, 512)],
    }
    whole = DryRun(spec, Precision.BF16).denoise(**size)
    shallow = DryRun(spec, Precision.BF16, shallow=True).denoise(**size)
    assert shallow.working_bytes == whole.working_bytes


def assert_coefficients(
    coefficients: ModelCoefficients, run: DryRun, precision: Precision, choice: random.Random
) -> None:
    """A request of any size, batch and reference images: as the dry run, never much under."""
    size: dict[str, Any] = {
        "images": choice.choice((1, 1, 2, 4, 8)),
        "width_px": 16 * choice.randint(4, 128),
        "height_px": 16 * choice.randint(4, 128),
    }
    references = tuple(
        (choice.randint(256, 1400), choice.randint(256, 1400))
        for _ in range(choice.choice((0, 0, 1, 2, 4)))
    )
    tile = choice.choice((None, 512, 768))
    reference = reference_size(size["width_px"], size["height_px"])
    edges: dict[str, Any] = {"width_px": reference[0], "height_px": reference[1]}
    pairs = (
        (
            coefficients.denoise_working_bytes(**size, references=references, precision=precision),
            run.denoise(**size, references=references).working_bytes,
        ),
        (
            coefficients.decode_working_bytes(**size, tile_px=None, precision=precision),
            run.decode(**size).working_bytes,
        ),
        (
            coefficients.decode_working_bytes(
                **{**size, "images": 1}, tile_px=tile, precision=precision
            ),
            run.decode(**{**size, "images": 1}, tile_px=tile).working_bytes,
        ),
        (
            coefficients.encode_reference_working_bytes(**edges, precision=precision),
            run.encode_reference(**edges).working_bytes,
        ),
    )
    for predicted, measured in pairs:
        assert (1 - UNDER) * measured <= predicted <= (1 + OVER) * measured, (size, references)


def known(name: str) -> tuple[ModelCoefficients, ModelSpec]:
    coefficients = shipped_coefficients(name)
    assert coefficients is not None
    if name == "demo":
        return coefficients, spec_of(inspect_model_folder(resource("models/demo")))
    return coefficients, known_spec(name)


@pytest.mark.parametrize(
    ("name", "precision", "requests"),
    [
        ("demo", Precision.FP32, 5),
        ("demo", Precision.BF16, 3),
        ("klein-4b", Precision.BF16, 3),
        ("klein-base-9b", Precision.BF16, 1),
        ("dev+small-decoder", Precision.BF16, 1),
    ],
)
def test_coefficients_are_the_dry_run(name: str, precision: Precision, requests: int) -> None:
    coefficients, spec = known(name)
    run = DryRun(spec, precision, shallow=True)
    choice = random.Random(f"{name} {precision}")
    for _ in range(requests):
        assert_coefficients(coefficients, run, precision, choice)


@pytest.mark.parametrize("name", ["demo", "klein-4b"])
def test_coefficients_are_the_dry_run_of_the_whole_network(name: str) -> None:
    coefficients, spec = known(name)
    run = DryRun(spec, Precision.BF16)
    for images, width_px, height_px in SIZES:
        size: dict[str, Any] = {"images": images, "width_px": width_px, "height_px": height_px}
        measured = run.denoise(**size)
        predicted = coefficients.denoise_working_bytes(**size, precision=Precision.BF16)
        assert predicted == pytest.approx(measured.working_bytes, rel=0.001)
        assert coefficients.denoise_step_flops(**size) == pytest.approx(measured.flops, rel=1e-6)
    encoded = run.encode()
    assert coefficients.encode_working_bytes(prompts=2, precision=Precision.BF16) == (
        encoded.working_bytes
    )
    assert coefficients.encode_flops(prompts=2) == 2 * encoded.flops
    for component, network in (
        ("text_encoder", run.networks.text_encoder),
        ("transformer", run.networks.transformer),
        ("autoencoder", run.networks.autoencoder),
    ):
        expected = sum(block_bytes(2 * tensor.numel()) for tensor in tensors_of(network))
        assert coefficients.weights_bytes(component, Precision.BF16) == expected
    table = run.networks.text_encoder.table
    assert coefficients.ram_only_bytes("text_encoder", Precision.BF16) == block_bytes(table.nbytes)


def test_tiles_that_are_joined_in_ram_are_never_forecast_too_low() -> None:
    coefficients, spec = known("demo")
    run = DryRun(spec, Precision.FP32)
    for images, width_px, height_px, tile_px in ((1, 512, 768, 256), (2, 592, 400, 512)):
        size: dict[str, Any] = {
            "images": images,
            "width_px": width_px,
            "height_px": height_px,
            "tile_px": tile_px,
        }
        measured = run.decode(**size, in_ram=True).working_bytes
        predicted = coefficients.decode_working_bytes(**size, precision=Precision.FP32, in_ram=True)
        pictures = (images + 1) * 3 * width_px * height_px * 4
        assert measured <= predicted <= measured + pictures


def test_math_attention_keeps_whole_matrices() -> None:
    _coefficients, spec = known("demo")
    size: dict[str, Any] = {"images": 1, "width_px": 512, "height_px": 512}
    fused = DryRun(spec, Precision.FP32).denoise(**size)
    math = DryRun(spec, Precision.FP32, attention=Attention.MATH).denoise(**size)
    tokens, heads = 512 + 1024, 4
    assert math.working_bytes > fused.working_bytes + heads * tokens * tokens * 4


ATTENTION_SIZES: tuple[dict[str, Any], ...] = (
    {"images": 1, "width_px": 512, "height_px": 512},
    {"images": 1, "width_px": 1536, "height_px": 1024},
    {"images": 3, "width_px": 768, "height_px": 1024},
    {"images": 2, "width_px": 512, "height_px": 768, "references": ((640, 512),)},
)


@pytest.mark.parametrize("name", ["demo", "klein-4b"])
@pytest.mark.parametrize("kind", [Attention.MATH, Attention.CHUNKED])
def test_kinds_of_attention_are_forecast_as_they_are_run(name: str, kind: Attention) -> None:
    """Attention in parts is run as the engine runs it; the fit has a stand-in for the parts."""
    coefficients, spec = known(name)
    # In parts, each part is computed by torch's math.
    run = DryRun(spec, Precision.BF16, attention=Attention.MATH, shallow=True)
    if kind is Attention.CHUNKED:
        use_attention(run.networks.transformer, kind)
    for size in ATTENTION_SIZES:
        measured = run.denoise(**size).working_bytes
        predicted = coefficients.denoise_working_bytes(
            **size, precision=Precision.BF16, attention=kind
        )
        # What is said of the parts is at most what they need.
        assert (1 - UNDER) * measured <= predicted <= 1.1 * measured, size


@pytest.mark.parametrize("precision", list(WAYS))
def test_quantized_layers_are_forecast_for_the_way_that_needs_most(precision: Precision) -> None:
    coefficients, spec = known("klein-4b")
    runs = [DryRun(spec, precision, way=way, shallow=True) for way in WAYS[precision]]
    sizes: tuple[dict[str, Any], ...] = (
        {"images": 1, "width_px": 768, "height_px": 1024},
        {"images": 3, "width_px": 1024, "height_px": 1024},
        {"images": 1, "width_px": 512, "height_px": 512, "references": ((1024, 768),)},
        # While pieces of sums in int8 are not full, what they need is above what is needed.
        {"images": 1, "width_px": 256, "height_px": 256},
        {"images": 1, "width_px": 64, "height_px": 64},
    )
    for size in sizes:
        measured = max(run.denoise(**size).working_bytes for run in runs)
        predicted = coefficients.denoise_working_bytes(**size, precision=precision)
        most = 1.08 if precision is Precision.INT8 and size["width_px"] < 512 else 1.01
        assert measured <= predicted <= most * measured, size


@pytest.mark.parametrize("precision", list(WAYS))
def test_weights_of_quantized_networks_are_those_of_their_tensors(precision: Precision) -> None:
    for name in ("demo", "klein-4b"):
        coefficients, spec = known(name)
        networks = DryRun(spec, precision).networks
        for component, network in (
            ("text_encoder", networks.text_encoder),
            ("transformer", networks.transformer),
        ):
            expected = sum(block_bytes(tensor.nbytes) for tensor in tensors_of(network))
            predicted = coefficients.weights_bytes(component, precision)
            # Frequencies of positions are counted in bf16, and are in fp32.
            assert predicted == pytest.approx(expected, abs=2048)


def test_unknown_model_is_dry_run_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = inspect_model_folder(make_tiny_model("dev", tmp_path / "model"))
    cache = tmp_path / "cache"
    made = forecast_model(info, cache)
    assert made.name == ""
    assert made.guidance == "embedded"
    assert made.stored_precision is Precision.FP32

    def again(_info: object) -> ModelCoefficients:
        raise AssertionError("it is kept")

    monkeypatch.setattr("app.engine.forecast.model_forecast.dry_run_coefficients", again)
    assert forecast_model(info, cache) == made
    run = DryRun(spec_of(info), Precision.FP32)
    assert_coefficients(made, run, Precision.FP32, random.Random(5))


@pytest.mark.parametrize("size", [(64, 64), (1024, 1024), (1500, 900), (4000, 1000), (1031, 1017)])
def test_reference_images_are_counted_at_the_size_diffusers_gives_them(
    size: tuple[int, int],
) -> None:
    image = Flux2ImageProcessor._resize_if_exceeds_area(Image.new("RGB", size))
    width_px, height_px = image.size
    assert reference_size(*size) == (width_px // 16 * 16, height_px // 16 * 16)

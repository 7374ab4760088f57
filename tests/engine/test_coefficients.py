"""Coefficients without torch: what ships, what is found for a folder, what they say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.paths import resource
from app.core.policy import Precision
from app.core.units import MIB
from app.engine.architecture import architecture_of, read_all_configs
from app.engine.coefficients import (
    SHIPPED,
    SMALL_DECODER,
    ModelCoefficients,
    cache_file,
    coefficients_for,
    shipped_coefficients,
)
from app.engine.lines import Lines
from app.engine.model_folder import ModelInfo, inspect_model_folder
from app.engine.overheads import default_calibration, overheads, peak_tflops
from app.engine.request_counts import reference_size
from app.engine.weight_sizes import ParameterCounts

COMPONENTS = ("text_encoder", "transformer", "autoencoder")
DECIDED = [precision for precision in Precision if precision is not Precision.AUTO]
EVERY = [*SHIPPED, *(name + SMALL_DECODER for name in SHIPPED if name != "demo")]
sides = st.integers(4, 256).map(lambda tokens: tokens * 16)


def shipped(name: str) -> ModelCoefficients:
    found = shipped_coefficients(name)
    assert found is not None
    return found


@pytest.fixture
def demo() -> ModelInfo:
    return inspect_model_folder(resource("models/demo"))


@pytest.mark.parametrize("name", EVERY)
def test_each_known_model_ships(name: str) -> None:
    found = shipped(name)
    assert found.name == name
    assert found.stored_precision is (Precision.FP32 if name == "demo" else Precision.BF16)


@pytest.mark.parametrize(
    ("name", "component", "billions"),
    [
        ("klein-4b", "transformer", 3.8755),
        ("klein-base-9b", "transformer", 9.0786),
        ("dev", "transformer", 32.2233),
        # 27 of 36 layers, 30 of 40; neither embeddings nor head nor what sees.
        ("klein-4b", "text_encoder", 2.7251),
        ("klein-9b", "text_encoder", 5.2081),
        ("dev", "text_encoder", 16.6733),
        ("klein-4b", "autoencoder", 0.08405),
        ("klein-4b+small-decoder", "autoencoder", 0.0624),
    ],
)
def test_parameters_are_those_of_the_published_models(
    name: str, component: str, billions: float
) -> None:
    stored = shipped(name).weights_bytes(component, Precision.BF16)
    assert stored / 2e9 == pytest.approx(billions, rel=1e-3)


def test_blocks_are_the_double_ones_then_the_single_ones() -> None:
    blocks = shipped("klein-4b").block_bytes("transformer", Precision.BF16)
    assert [round(block / 2**20) for block in blocks] == [468] * 5 + [234] * 20
    assert len(shipped("klein-4b").block_bytes("text_encoder", Precision.BF16)) == 27
    assert len(shipped("dev").block_bytes("text_encoder", Precision.BF16)) == 30
    assert shipped("dev").block_bytes("autoencoder", Precision.BF16) == ()


def test_quantized_file_of_the_4b_transformer_has_its_published_size() -> None:
    # flux-2-klein-4b-fp8.safetensors has 4.07 GB.
    stored = shipped("klein-4b").weights_bytes("transformer", Precision.FP8)
    assert stored == pytest.approx(4.07e9, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "millions"), [("klein-4b", 388.95), ("klein-9b", 622.3), ("dev", 671.1)]
)
def test_the_table_of_embeddings_stays_in_ram(name: str, millions: float) -> None:
    found = shipped(name)
    assert found.ram_only_bytes("text_encoder", Precision.BF16) / 2e6 == pytest.approx(
        millions, rel=1e-3
    )
    assert found.ram_only_bytes("transformer", Precision.BF16) == 0
    quantized = found.ram_only_bytes("text_encoder", Precision.NF4)
    assert quantized == found.ram_only_bytes("text_encoder", Precision.BF16)


def test_each_tensor_takes_whole_blocks_of_the_allocator() -> None:
    small = ParameterCounts(matrices=((3, 5, 2),), others=((1, 3), (200, 1)))
    assert small.stored_bytes(Precision.FP32) == 2 * 512 + 3 * 512 + 1024
    # Too narrow for 8 bits: they stay in bf16.
    assert small.stored_bytes(Precision.FP8) == small.stored_bytes(Precision.BF16)
    wide = ParameterCounts(matrices=((1024, 512, 1),))
    assert wide.stored_bytes(Precision.FP8) == 1024 * 512 + 1024 * 4
    assert wide.stored_bytes(Precision.NF4) == 1024 * 512 // 2 + 1024 * 512 // 32 * 2


@pytest.mark.parametrize("name", EVERY)
def test_narrower_weights_are_smaller_and_blocks_are_part_of_them(name: str) -> None:
    found = shipped(name)
    for component in COMPONENTS:
        stored = [found.weights_bytes(component, precision) for precision in DECIDED]
        assert stored == sorted(stored, reverse=True)
        for precision in DECIDED:
            inside = sum(found.block_bytes(component, precision))
            assert inside < found.weights_bytes(component, precision)


def test_undecided_precision_is_refused() -> None:
    found = shipped("demo")
    with pytest.raises(ValueError, match="AUTO"):
        found.weights_bytes("transformer", Precision.AUTO)
    with pytest.raises(ValueError, match="AUTO"):
        found.encode_working_bytes(prompts=1, precision=Precision.AUTO)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(EVERY),
    images=st.integers(1, 16),
    width_px=sides,
    height_px=sides,
    precision=st.sampled_from(DECIDED),
)
def test_more_of_anything_never_needs_less(
    name: str, images: int, width_px: int, height_px: int, precision: Precision
) -> None:
    found = shipped(name)

    def denoise(count: int, width: int, references: tuple[tuple[int, int], ...] = ()) -> int:
        return found.denoise_working_bytes(
            images=count,
            width_px=width,
            height_px=height_px,
            references=references,
            precision=precision,
        )

    def decode(count: int, width: int, tile_px: int | None = None) -> int:
        return found.decode_working_bytes(
            images=count,
            width_px=width,
            height_px=height_px,
            tile_px=tile_px,
            precision=precision,
        )

    needed = denoise(images, width_px)
    assert needed < denoise(images + 1, width_px)
    assert needed < denoise(images, width_px + 16)
    assert needed < denoise(images, width_px, ((512, 512),))
    assert denoise(images, width_px, ((512, 512),)) < denoise(images, width_px, ((512, 512),) * 2)
    assert decode(images, width_px) < decode(images + 1, width_px)
    assert decode(1, width_px, 256) <= decode(1, width_px, 512) <= decode(1, width_px)
    flops = found.denoise_step_flops(images=images, width_px=width_px, height_px=height_px)
    assert flops < found.denoise_step_flops(
        images=images, width_px=width_px, height_px=height_px, references=((512, 512),)
    )


def test_operations_of_a_megapixel_are_the_published_ones() -> None:
    size: dict[str, Any] = {"images": 1, "width_px": 1024, "height_px": 1024}
    for name, tera in (("klein-4b", 34.8), ("klein-9b", 75.5), ("dev", 282.6)):
        assert shipped(name).denoise_step_flops(**size) / 1e12 == pytest.approx(tera, rel=2e-3)
    assert shipped("dev").decode_flops(**size) / 1e12 == pytest.approx(10.5, rel=5e-3)


def test_tiles_as_large_as_the_picture_are_the_whole_picture() -> None:
    found = shipped("klein-4b")
    size = {"images": 1, "width_px": 512, "height_px": 768, "precision": Precision.BF16}
    whole = found.decode_working_bytes(**size, tile_px=None)
    assert found.decode_working_bytes(**size, tile_px=1024) == whole


def test_large_reference_images_count_as_a_megapixel() -> None:
    assert reference_size(8192, 4096) == reference_size(4096, 2048) == (1440, 720)
    assert reference_size(1000, 500) == (992, 496)


@pytest.mark.parametrize("name", ["", "klein", "../demo", "demo.json", "none"])
def test_unknown_names_have_no_coefficients(name: str) -> None:
    assert shipped_coefficients(name) is None


def test_known_folder_is_answered_by_what_ships(demo: ModelInfo, tmp_path: Path) -> None:
    assert coefficients_for(demo, tmp_path) == shipped("demo")


def test_folder_of_another_architecture_is_not_answered_by_what_ships(
    demo: ModelInfo, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(demo.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = folder / "text_encoder" / "config.json"
    values = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps({**values, "intermediate_size": 96}), "utf-8")
    assert coefficients_for(replace(demo, folder=folder), tmp_path / "cache") is None


def test_kept_coefficients_are_found_and_broken_ones_are_not(
    demo: ModelInfo, tmp_path: Path
) -> None:
    unknown = replace(demo, name=None)
    path = cache_file(unknown, architecture_of(read_all_configs(demo.folder)), tmp_path)
    assert coefficients_for(unknown, tmp_path) is None
    path.write_bytes(msgspec.json.encode(shipped("demo")))
    assert coefficients_for(unknown, tmp_path) == shipped("demo")
    for broken in (b"", b"{}", b"\xff\xfe", b'{"schema": 99}'):
        path.write_bytes(broken)
        assert coefficients_for(unknown, tmp_path) is None


def test_folder_that_went_away_has_no_coefficients(demo: ModelInfo, tmp_path: Path) -> None:
    assert coefficients_for(replace(demo, folder=tmp_path / "gone"), tmp_path) is None


def test_lines_give_the_largest_rounded_up_and_never_less_than_nothing() -> None:
    lines = Lines(terms=("1", "a*b"), lines=((10.0, 0.25), (0.0, 1.0)))
    assert lines.at({"a": 1, "b": 1}) == 11
    assert lines.at({"a": 5, "b": 20}) == 100
    assert Lines(terms=("1",), lines=((-5.0,),)).at({}) == 0


@pytest.mark.parametrize("lines", [(), ((1.0, 2.0),)])
def test_lines_that_cannot_be_evaluated_are_refused(lines: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="factor for each term"):
        Lines(terms=("1",), lines=lines)


def test_defaults_of_a_gpu_have_a_source_for_each_term() -> None:
    terms = overheads("cuda", "NVIDIA GeForce RTX 4090")
    calibration = default_calibration("cuda", "NVIDIA GeForce RTX 4090")
    assert all(term.source for term in terms)
    assert calibration.context_bytes + calibration.workspace_bytes == sum(
        term.size_bytes for term in terms
    )
    hopper = default_calibration("cuda", "NVIDIA H100 80GB HBM3")
    assert hopper.workspace_bytes > calibration.workspace_bytes
    for name in ("NVIDIA H20", "NVIDIA H800", "NVIDIA GB200", "NVIDIA GeForce RTX 5060 Ti"):
        assert default_calibration("cuda", name).workspace_bytes == hopper.workspace_bytes
    assert hopper.compute_flops > calibration.compute_flops
    assert default_calibration("cpu", "CPU").context_bytes == 0
    splintered = default_calibration("cuda", "NVIDIA GeForce RTX 4090", growing=False)
    assert splintered.reserve_share > default_calibration("cuda", "", growing=True).reserve_share
    assert default_calibration("xpu", "Intel(R) Arc(TM) B580 Graphics").context_bytes > 0


@pytest.mark.parametrize(
    ("kind", "name", "workspace_mib"),
    [
        ("cuda", "NVIDIA GeForce RTX 3060", 192 + 16.25),
        ("cuda", "NVIDIA RTX 5000 Ada Generation", 192 + 16.25),
        ("cuda", "NVIDIA GH200 480GB", 192 + 64),
        ("cuda", "NVIDIA GeForce RTX 5070 Ti", 192 + 64),
        ("cuda", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 192 + 64),
        ("rocm", "AMD Radeon RX 7900 XTX", 192 + 108),
    ],
)
def test_libraries_of_matrix_products_take_what_torch_gives_them(
    kind: str, name: str, workspace_mib: float
) -> None:
    assert default_calibration(kind, name).workspace_bytes == workspace_mib * MIB


def test_speed_is_by_the_most_special_name_and_cautious_for_others() -> None:
    assert peak_tflops("NVIDIA GeForce RTX 4060 Ti") > peak_tflops("NVIDIA GeForce RTX 4060")
    assert peak_tflops("NVIDIA GeForce RTX 4090 Laptop GPU") < peak_tflops("NVIDIA RTX 4090")
    assert peak_tflops("A card nobody has heard of") < peak_tflops("NVIDIA GeForce RTX 3060")

"""Weights that others have quantized: fp8 checkpoints and GGUF files, run as they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file

from app.core.errors import ModelError
from app.core.events import JobFinished
from app.core.paths import resource
from app.core.policy import Precision
from app.engine.compute_device import CpuDevice
from app.engine.libraries import diffusers_class
from app.engine.loader import LoadedModel, load_model, load_text_encoder, model_key
from app.engine.model_folder import inspect_model_folder, stored_dtypes
from app.engine.quantize import linear
from app.engine.quantize.gguf_file import read_gguf
from app.engine.quantize.gguf_linear import GgufLinear, gguf_rows, stored_gguf
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.linear import Fp8Linear
from app.engine.quantize.ways import forced_way
from app.engine.stored_weights import MappedFiles
from tests.engine_process import make_job
from tests.engine_runs import Runs, of_kind, pixels

DEMO = resource("models/demo")
WEIGHTS = "diffusion_pytorch_model.safetensors"
FULL = load_file(DEMO / "transformer" / WEIGHTS)
QUANTIZED = {n for n, t in FULL.items() if "blocks." in n and t.ndim == 2}


def publisher_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Diffusers' tensors as the publisher's files have them."""
    outside = {
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
        "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
        "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin",
        "single_stream_modulation.linear": "single_stream_modulation.lin",
        "proj_out": "final_layer.linear",
    }
    double = {
        "attn.norm_q": "img_attn.norm.query_norm.scale",
        "attn.norm_k": "img_attn.norm.key_norm.scale",
        "attn.to_out.0": "img_attn.proj.weight",
        "ff.linear_in": "img_mlp.0.weight",
        "ff.linear_out": "img_mlp.2.weight",
        "attn.norm_added_q": "txt_attn.norm.query_norm.scale",
        "attn.norm_added_k": "txt_attn.norm.key_norm.scale",
        "attn.to_add_out": "txt_attn.proj.weight",
        "ff_context.linear_in": "txt_mlp.0.weight",
        "ff_context.linear_out": "txt_mlp.2.weight",
    }
    single = {
        "attn.to_qkv_mlp_proj": "linear1.weight",
        "attn.to_out": "linear2.weight",
        "attn.norm_q": "norm.query_norm.scale",
        "attn.norm_k": "norm.key_norm.scale",
    }
    found = {f"{new}.weight": tensors[f"{old}.weight"] for old, new in outside.items()}
    scale, shift = tensors["norm_out.linear.weight"].chunk(2)
    found["final_layer.adaLN_modulation.1.weight"] = torch.cat([shift, scale])
    for old, new in double.items():
        found[f"double_blocks.0.{new}"] = tensors[f"transformer_blocks.0.{old}.weight"]
    for kind, names in (("img", "to_q to_k to_v"), ("txt", "add_q_proj add_k_proj add_v_proj")):
        parts = [tensors[f"transformer_blocks.0.attn.{name}.weight"] for name in names.split()]
        found[f"double_blocks.0.{kind}_attn.qkv.weight"] = torch.cat(parts)
    for number in range(5):
        for old, new in single.items():
            name = f"single_transformer_blocks.{number}.{old}.weight"
            found[f"single_blocks.{number}.{new}"] = tensors[name]
    assert sum(t.numel() for t in found.values()) == sum(t.numel() for t in tensors.values())
    return found


def write_gguf(path: Path, kind: str, *, outside: str = "F32") -> Path:
    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in publisher_names(FULL).items():
        wanted = kind if "blocks." in name else outside
        fits = tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        number = gguf.GGMLQuantizationType[wanted if fits else "F32"]
        data = gguf.quantize(tensor.numpy(), number)
        writer.add_tensor(name, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    shutil.copytree(DEMO, made)
    (made / "transformer" / WEIGHTS).unlink()
    return made


Scaled = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]


def whole_scale(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = weight.abs().max() / 448
    return (weight / scale).to(torch.float8_e4m3fn), scale


def row_scale(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = weight.abs().amax(1) / 448
    return (weight / scale[:, None]).to(torch.float8_e4m3fn), scale


def only_rounded(weight: torch.Tensor) -> tuple[torch.Tensor, None]:
    return weight.to(torch.float8_e5m2), None


def write_fp8(folder: Path, scaled: Scaled, scale_name: str) -> None:
    made: dict[str, torch.Tensor] = {}
    for name, tensor in FULL.items():
        if name not in QUANTIZED:
            made[name] = tensor.bfloat16()
            continue
        made[name], scale = scaled(tensor)
        if scale is not None:
            made[f"{name.removesuffix('weight')}{scale_name}"] = scale
    save_file(made, folder / "transformer" / WEIGHTS)


def transformer(folder: Path) -> Any:
    info = inspect_model_folder(folder)
    model = load_model(info, model_key(folder), torch.device("cpu"), lambda: None)
    return model.pipeline.transformer


def result(network: Any, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator).to(dtype)

    places = torch.cartesian_prod(*[torch.arange(n) for n in (1, 8, 8, 1)])
    with torch.no_grad():
        return network(
            hidden_states=numbers(64, 64),
            encoder_hidden_states=numbers(32, 144),
            timestep=torch.tensor([0.5], dtype=dtype),
            img_ids=places[None],
            txt_ids=places[None, :32],
            guidance=None,
        ).sample.float()


@pytest.fixture(scope="module")
def wanted() -> torch.Tensor:
    network = diffusers_class("Flux2Transformer2DModel").from_pretrained(DEMO / "transformer")
    return result(network.eval(), torch.float32)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    ("scaled", "scale_name", "most"),
    [
        (whole_scale, "weight_scale", 0.05),
        (row_scale, "scale_weight", 0.05),
        (only_rounded, "", 0.12),
    ],
)
def test_fp8_of_others_is_run_as_it_is_stored(folder, wanted, scaled, scale_name, most):
    write_fp8(folder, scaled, scale_name)
    assert stored_dtypes(folder)["transformer"] == "bfloat16"
    network = transformer(folder)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, Fp8Linear)}
    assert {f"{name}.weight" for name in layers} == QUANTIZED
    codes, scale = scaled(FULL["transformer_blocks.0.attn.to_q.weight"])
    layer = layers["transformer_blocks.0.attn.to_q"]
    assert torch.equal(layer.codes.view(torch.uint8), codes.view(torch.uint8))
    assert torch.equal(
        layer.scales, (torch.ones(()) if scale is None else scale).expand(128).view(128, 1)
    )
    assert 0 < relative(result(network, torch.bfloat16), wanted) < most


def test_the_way_to_multiply_is_tried_before_weights_fill_the_device(folder, monkeypatch):
    asked: list[tuple[Precision, torch.device, torch.dtype]] = []
    monkeypatch.setattr(linear, "way_for", lambda *what: asked.append(what))
    write_fp8(folder, row_scale, "scale_weight")
    transformer(folder)
    assert asked == [(Precision.FP8, torch.device("cpu"), torch.bfloat16)]


def test_the_way_of_a_text_encoder_that_is_read_later_is_tried_then(folder, monkeypatch):
    asked: list[tuple[Precision, torch.device, torch.dtype]] = []
    monkeypatch.setattr(linear, "way_for", lambda *what: asked.append(what))
    shutil.copy(DEMO / "transformer" / WEIGHTS, folder / "transformer" / WEIGHTS)
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    name = next(one for one in tensors if one.endswith("layers.0.self_attn.q_proj.weight"))
    codes, scale = row_scale(tensors[name])
    changed = {one: tensor.bfloat16() for one, tensor in tensors.items()}
    save_file({**changed, name: codes, f"{name}_scale": scale}, path)
    info = inspect_model_folder(folder)
    cpu = torch.device("cpu")
    model = load_model(info, model_key(folder), cpu, lambda: None, needs_text_encoder=False)
    assert asked == []
    load_text_encoder(model, cpu, lambda: None)
    assert asked == [(Precision.FP8, cpu, torch.bfloat16)]


@pytest.mark.parametrize(
    ("scaled", "way"), [(row_scale, Way.FP8_ROWS), (only_rounded, Way.DEQUANTIZE)]
)
def test_latents_are_those_of_one_way_to_multiply(folder, scaled, way):
    write_fp8(folder, scaled, "scale_weight")
    info = inspect_model_folder(folder)

    def loaded() -> LoadedModel:
        return load_model(info, model_key(folder), torch.device("cpu"), lambda: None)

    plain = loaded()
    assert plain.products == {"transformer": "dequantize"}
    with forced_way(Precision.FP8, Way.FP8_ROWS):
        other = loaded()
    assert other.products == {"transformer": way.value}
    # An interrupted run goes on only where these are the same.
    assert (other.precisions == plain.precisions) == (way is Way.DEQUANTIZE)


def test_scales_of_another_kind_are_refused(folder):
    def by_blocks(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weight.to(torch.float8_e4m3fn), torch.ones(2, 2)

    write_fp8(folder, by_blocks, "weight_scale")
    with pytest.raises(ModelError, match="scales of a kind"):
        transformer(folder)


def test_names_in_gguf_are_those_that_diffusers_gives(tmp_path):
    path = write_gguf(tmp_path / "demo.gguf", "F32")
    theirs = convert_flux2_transformer_checkpoint_to_diffusers(publisher_names(FULL))
    stored, kinds = stored_gguf(path)
    files = MappedFiles()
    assert kinds == {}
    assert stored.keys() == theirs.keys() == FULL.keys()
    for name, tensor in theirs.items():
        found = files.tensor(stored[name])
        if name == "norm_out.linear.weight":
            found = torch.cat(found.chunk(2)[::-1])
        assert torch.equal(found, tensor), name


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 0.02), ("Q5_1", 0.06), ("Q4_0", 0.15)])
def test_gguf_is_run_as_it_is_stored(folder, wanted, kind, most):
    path = write_gguf(folder / "transformer" / "any-name.gguf", kind, outside="Q8_0")
    assert stored_dtypes(folder)["transformer"] == "bfloat16"
    network = transformer(folder)
    layers = {n for n, m in network.named_modules() if isinstance(m, GgufLinear)}
    assert {f"{name}.weight" for name in layers} >= QUANTIZED
    assert "x_embedder" in layers
    assert network.norm_out.linear.weight.dtype is torch.bfloat16
    assert 0 < relative(result(network, torch.bfloat16), wanted) < most
    entry = read_gguf(path)["transformer_blocks.0.attn.to_k.weight"]
    assert (entry.dtype, entry.shape) == (f"gguf:{kind}", (128, 128))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_1"])
def test_rows_of_gguf_are_what_its_own_package_makes_of_them(kind):
    weight = FULL["transformer_blocks.0.attn.to_q.weight"].numpy()
    number = gguf.GGMLQuantizationType[kind]
    codes = gguf.quantize(weight, number)
    wanted = torch.from_numpy(gguf.dequantize(codes, number))
    found = gguf_rows(torch.from_numpy(codes), kind, torch.float32)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


def test_kinds_that_cannot_be_run_are_refused(tmp_path):
    path = tmp_path / "demo.gguf"
    writer = gguf.GGUFWriter(path, "flux")
    number = gguf.GGMLQuantizationType.TQ1_0
    data = np.zeros((4, 54), dtype=np.uint8)
    writer.add_tensor("single_blocks.0.linear1.weight", data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match="quantized as TQ1_0"):
        read_gguf(path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\x80\x02}q\x00.", b"GGUF" + b"\xff" * 64])
def test_what_is_no_gguf_is_refused(folder, content):
    (folder / "transformer" / "model.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="not a valid GGUF file"):
        inspect_model_folder(folder)


def test_two_gguf_files_and_pickles_are_refused(folder):
    with pytest.raises(ModelError, match="lacks its file"):
        inspect_model_folder(folder)
    (folder / "transformer" / "weights.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match="pickle"):
        inspect_model_folder(folder)
    for name in ("a", "b"):
        (folder / "transformer" / f"{name}.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="several GGUF"):
        inspect_model_folder(folder)


def test_gguf_of_another_model_is_refused(folder):
    config = folder / "transformer" / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**values, "num_single_layers": 4}), encoding="utf-8")
    write_gguf(folder / "transformer" / "demo.gguf", "Q8_0")
    with pytest.raises(ModelError, match="not those of its"):
        inspect_model_folder(folder)


@pytest.mark.slow
def test_engine_draws_with_a_gguf_transformer(folder, tmp_path):
    write_gguf(folder / "transformer" / "demo.gguf", "Q8_0")
    asked: dict[str, Any] = {
        "prompt": "a large red circle in the centre on a white background",
        "steps": 4,
        "width_px": 128,
        "height_px": 128,
    }
    runs = Runs(CpuDevice())
    plain = runs.run(make_job(DEMO, tmp_path / "plain", **asked))
    assert isinstance(plain[-1], JobFinished)
    expected = pixels(plain)[0]
    events = runs.run(make_job(folder, tmp_path / "gguf", **asked))
    assert of_kind(events, JobFinished), events[-1]
    assert 0 < np.abs(pixels(events)[0] - expected).mean() < 6

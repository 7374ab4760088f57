import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import ModelError
from app.engine import model_folder
from app.engine.model_components import ModelFamily, final_norm_read, text_layers_read
from app.engine.model_folder import GuidanceKind, inspect_model_folder, stored_dtypes
from tests.fakes.model_folder import (
    DEMO,
    DEV,
    KLEIN_4B,
    KLEIN_9B,
    SMALL,
    Size,
    change_json,
    make_folder,
    write_json,
    write_raw_safetensors,
    write_safetensors,
)

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "my model")


def refused(folder: Path, code: str) -> ModelError:
    """The folder's error, which must be one sentence or two, and name what it is about."""
    with pytest.raises(ModelError) as caught:
        inspect_model_folder(folder)
    error = caught.value
    assert error.code == code, error.message
    assert str(folder) in error.message
    assert error.message.endswith(".")
    assert "\n" not in error.message
    return error


def test_needs_neither_torch_nor_qt(folder: Path):
    program = (
        "import sys; from pathlib import Path\n"
        "from app.engine import catalog, model_folder, output, prompt_tokens\n"
        "model_folder.inspect_model_folder(Path(sys.argv[1]))\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'safetensors', 'numpy', 'PySide6'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert ended.stdout.strip() == "[]"


class TestKnownModels:
    @pytest.mark.parametrize(
        ("size", "dev", "distilled", "name", "label"),
        [
            (KLEIN_4B, False, True, "klein-4b", "FLUX.2 klein 4B"),
            (KLEIN_4B, False, False, "klein-base-4b", "FLUX.2 klein base 4B"),
            (KLEIN_9B, False, True, "klein-9b", "FLUX.2 klein 9B"),
            (KLEIN_9B, False, False, "klein-base-9b", "FLUX.2 klein base 9B"),
            (DEV, True, False, "dev", "FLUX.2 dev"),
            (DEMO, False, True, "demo", "Demo: draws simple shapes"),
        ],
    )
    def test_real_configs_are_recognised(
        self, tmp_path: Path, size: Size, dev: bool, distilled: bool, name: str, label: str
    ):
        info = inspect_model_folder(make_folder(tmp_path / "m", size, dev=dev, distilled=distilled))
        assert (info.name, info.label) == (name, label)
        assert info.family is (ModelFamily.DEV if dev else ModelFamily.KLEIN)
        assert info.text_out_layers == ((10, 20, 30) if dev else (9, 18, 27))

    @pytest.mark.parametrize(
        ("dev", "distilled", "guidance", "steps", "scale"),
        [
            (False, True, GuidanceKind.NONE, 4, 1.0),
            (False, False, GuidanceKind.CFG, 50, 4.0),
            (True, False, GuidanceKind.EMBEDDED, 28, 4.0),
        ],
    )
    def test_defaults_follow_the_family(
        self,
        tmp_path: Path,
        dev: bool,
        distilled: bool,
        guidance: GuidanceKind,
        steps: int,
        scale: float,
    ):
        info = inspect_model_folder(make_folder(tmp_path / "m", dev=dev, distilled=distilled))
        assert (info.guidance, info.default_steps, info.default_guidance) == (
            guidance,
            steps,
            scale,
        )
        assert (info.default_width_px, info.default_height_px) == (1024, 1024)
        assert info.distilled is distilled

    def test_demo_has_its_own_defaults(self, tmp_path: Path):
        info = inspect_model_folder(make_folder(tmp_path / "m", DEMO))
        assert (info.default_steps, info.default_width_px, info.default_height_px) == (8, 128, 128)
        assert info.guidance is GuidanceKind.NONE

    def test_folder_of_the_demo_is_the_demo(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(model_folder, "resource", lambda relative: folder)
        assert inspect_model_folder(folder).name == "demo"

    def test_klein_index_without_the_flag_is_base_as_in_diffusers(self, folder: Path):
        change_json(folder / "model_index.json", is_distilled=None)
        assert inspect_model_folder(folder).guidance is GuidanceKind.CFG

    def test_dev_without_guidance_input_ignores_guidance(self, tmp_path: Path):
        folder = make_folder(tmp_path / "m", dev=True)
        change_json(folder / "transformer" / "config.json", guidance_embeds=False)
        assert inspect_model_folder(folder).guidance is GuidanceKind.NONE

    def test_other_flux2_folders_have_no_name_but_a_label(self, tmp_path: Path):
        for kind, options in {
            "klein": {},
            "klein base": {"distilled": False},
            "dev": {"dev": True},
        }.items():
            info = inspect_model_folder(make_folder(tmp_path / kind, **options))
            assert info.name is None
            assert info.label == f"{kind} (FLUX.2 {kind} layout)"

    def test_relative_folder_becomes_absolute(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(folder.parent)
        assert inspect_model_folder(Path("my model")).folder == folder


class TestTextLayers:
    def test_shallow_encoder_gets_as_many_layers_spread_evenly(self, folder: Path):
        assert inspect_model_folder(folder).text_out_layers == (1, 2, 3)

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [(2, (0, 1, 1)), (26, (6, 13, 19)), (27, (9, 18, 27)), (40, (9, 18, 27))],
    )
    def test_own_layers_need_a_deep_encoder(
        self, folder: Path, layers: int, expected: tuple[int, ...]
    ):
        change_json(folder / "text_encoder" / "config.json", num_hidden_layers=layers)
        assert inspect_model_folder(folder).text_out_layers == expected

    @pytest.mark.parametrize(
        ("out_layers", "layers", "read", "norm"),
        [
            ((9, 18, 27), 36, 27, False),
            ((10, 20, 30), 40, 30, False),
            ((9, 18, 27), 27, 27, True),
            ((0, 1, 1), 2, 1, False),
            ((0,), 1, 1, False),
        ],
    )
    def test_layers_up_to_the_last_hidden_state_are_read(
        self, out_layers: tuple[int, ...], layers: int, read: int, norm: bool
    ):
        assert text_layers_read(out_layers) == read
        assert final_norm_read(out_layers, layers) == norm

    def test_transformer_that_takes_two_layers(self, folder: Path):
        width = SMALL.heads * SMALL.head_dim
        shapes = {"x_embedder.weight": (width, 32), "context_embedder.weight": (width, 32)}
        shapes |= {"transformer_blocks.0.a": (1, 1)}
        shapes |= {f"single_transformer_blocks.{number}.a": (1, 1) for number in range(2)}
        change_json(folder / "transformer" / "config.json", joint_attention_dim=32)
        write_safetensors(folder / "transformer" / WEIGHTS, shapes)
        assert inspect_model_folder(folder).text_out_layers == (1, 2)


class TestWeights:
    def test_bytes_of_all_files_are_counted(self, folder: Path):
        files = list(folder.rglob("*.safetensors"))
        assert len(files) == 3
        assert inspect_model_folder(folder).weights_bytes == sum(f.stat().st_size for f in files)

    def test_shards_are_one_component(self, folder: Path):
        whole = inspect_model_folder(folder)
        file = folder / "text_encoder" / "model.safetensors"
        file.rename(file.with_name("model-00001-of-00002.safetensors"))
        write_safetensors(
            folder / "text_encoder" / "model-00002-of-00002.safetensors",
            {"lm_head.weight": (8, 16)},
        )
        write_json(
            folder / "text_encoder" / "model.safetensors.index.json",
            {
                "metadata": {"total_size": 1},
                "weight_map": {
                    "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
                    "lm_head.weight": "model-00002-of-00002.safetensors",
                },
            },
        )
        assert inspect_model_folder(folder).weights_bytes > whole.weights_bytes

    def test_stored_dtypes_are_torchs_names(self, folder: Path):
        write_safetensors(folder / "vae" / WEIGHTS, {"bn.running_mean": (32,)}, dtype="F32")
        assert stored_dtypes(folder) == {
            "transformer": "bfloat16",
            "vae": "float32",
            "text_encoder": "bfloat16",
        }

    def test_most_common_dtype_is_by_bytes(self, folder: Path):
        header = {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            "big": {"dtype": "F16", "shape": [8], "data_offsets": [8, 24]},
        }
        write_raw_safetensors(folder / "vae" / WEIGHTS, json.dumps(header).encode(), data_bytes=24)
        assert stored_dtypes(folder)["vae"] == "float16"


class TestRefused:
    def test_missing_folder(self, tmp_path: Path):
        refused(tmp_path / "none", "model.missing")

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-of-this-name/x"])
    def test_path_that_cannot_be(self, tmp_path: Path, name: str):
        refused(tmp_path / name, "model.missing")
        with pytest.raises(ModelError, match="There is no model folder"):
            inspect_model_folder(Path(name))

    def test_dtypes_of_a_missing_component(self, folder: Path):
        shutil.rmtree(folder / "vae")
        with pytest.raises(ModelError, match="lacks its folder"):
            stored_dtypes(folder)

    def test_file_instead_of_a_folder(self, folder: Path):
        error = refused(folder / "model_index.json", "model.not_a_folder")
        assert "diffusers layout" in error.message

    def test_empty_folder(self, tmp_path: Path):
        error = refused(tmp_path, "model.not_a_model")
        assert "diffusers layout" in error.message

    @pytest.mark.parametrize("name", ["flux2-dev.safetensors", "klein.gguf"])
    def test_single_file_checkpoints(self, tmp_path: Path, name: str):
        (tmp_path / name).touch()
        assert "single-file" in refused(tmp_path, "model.not_a_model").message

    def test_comfyui_folder(self, tmp_path: Path):
        (tmp_path / "diffusion_models").mkdir()
        assert "ComfyUI" in refused(tmp_path, "model.not_a_model").message

    def test_component_alone(self, folder: Path):
        error = refused(folder / "transformer", "model.not_a_model")
        assert "single component" in error.message

    def test_pickle_checkpoint_alone(self, tmp_path: Path):
        (tmp_path / "model.ckpt").touch()
        assert "safetensors" in refused(tmp_path, "model.pickle").message

    def test_model_one_level_deeper_is_pointed_to(self, folder: Path):
        assert str(folder) in refused(folder.parent, "model.not_a_model").message

    def test_model_in_a_download_cache_is_pointed_to(self, tmp_path: Path):
        cache = tmp_path / "models--black-forest-labs--FLUX.2-klein-4B"
        inside = make_folder(cache / "snapshots" / "0123")
        assert str(inside) in refused(cache, "model.not_a_model").message

    def test_several_models_inside(self, folder: Path):
        make_folder(folder.parent / "other")
        assert "several models" in refused(folder.parent, "model.not_a_model").message

    @pytest.mark.parametrize(
        ("class_name", "name"),
        [
            ("FluxPipeline", "FLUX.1"),
            ("FluxKontextPipeline", "FLUX.1 Kontext"),
            ("StableDiffusionXLPipeline", "SDXL"),
            ("StableDiffusionPipeline", "Stable Diffusion 1.5 or 2"),
            ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
            ("QwenImageEditPlusPipeline", "Qwen-Image"),
            ("ZImagePipeline", "Z-Image"),
            ("SomethingNewPipeline", "SomethingNewPipeline"),
            ("", "something without"),
        ],
    )
    def test_other_models_are_named(self, folder: Path, class_name: str, name: str):
        change_json(folder / "model_index.json", _class_name=class_name)
        error = refused(folder, "model.not_flux2")
        assert name in error.message
        assert "FLUX.2 klein or dev" in error.message

    def test_flux2_variant_we_cannot_run(self, folder: Path):
        change_json(folder / "model_index.json", _class_name="Flux2KleinKVPipeline")
        assert "Flux2KleinKVPipeline" in refused(folder, "model.unknown_config").message

    @pytest.mark.parametrize(
        "file",
        [
            "model_index.json",
            "transformer/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "scheduler/scheduler_config.json",
            "tokenizer/tokenizer_config.json",
        ],
    )
    @pytest.mark.parametrize("text", [b"{broken", b"[1]", b"", b"\xff\xfe{}", b"[" * 100_000])
    def test_broken_json(self, folder: Path, file: str, text: bytes):
        (folder / file).write_bytes(text)
        assert str(folder / file) in refused(folder, "model.broken_json").message

    def test_huge_json_is_not_read(self, folder: Path):
        with (folder / "model_index.json").open("wb") as file:
            file.truncate(1 << 30)
        refused(folder, "model.broken_json")

    @pytest.mark.parametrize(
        "part",
        [
            "transformer",
            "vae",
            "text_encoder",
            "tokenizer",
            "scheduler",
            "transformer/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "scheduler/scheduler_config.json",
            "tokenizer/tokenizer_config.json",
            "tokenizer/tokenizer.json",
            f"transformer/{WEIGHTS}",
            f"vae/{WEIGHTS}",
            "text_encoder/model.safetensors",
        ],
    )
    def test_missing_part(self, folder: Path, part: str):
        path = folder / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        assert str(path) in refused(folder, "model.file_missing").message

    def test_old_tokenizer_files_are_enough(self, folder: Path):
        (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "vocab.json")
        assert inspect_model_folder(folder).family is ModelFamily.KLEIN

    @pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth", ".BIN"])
    def test_pickled_weights_are_refused(self, folder: Path, suffix: str):
        (folder / "vae" / WEIGHTS).rename(folder / "vae" / f"diffusion_pytorch_model{suffix}")
        error = refused(folder, "model.pickle")
        assert "run any program" in error.message
        assert "safetensors" in error.message

    def test_pickle_beside_safetensors_is_never_needed(self, folder: Path):
        (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"evil")
        assert inspect_model_folder(folder).weights_bytes > 0

    def test_missing_shard(self, folder: Path):
        vae = folder / "vae"
        (vae / WEIGHTS).unlink()
        write_json(vae / f"{WEIGHTS}.index.json", {"weight_map": {"a": "part-1.safetensors"}})
        error = refused(folder, "model.file_missing")
        assert "part-1.safetensors" in error.message

    @pytest.mark.parametrize(
        "shard", ["../transformer/x.safetensors", "/etc/x.safetensors", "part.bin", ""]
    )
    def test_index_that_points_elsewhere(self, folder: Path, shard: str):
        vae = folder / "vae"
        (vae / WEIGHTS).unlink()
        write_json(vae / f"{WEIGHTS}.index.json", {"weight_map": {"a": shard}})
        refused(folder, "model.broken_json")

    def test_index_without_files(self, folder: Path):
        vae = folder / "vae"
        (vae / WEIGHTS).unlink()
        write_json(vae / f"{WEIGHTS}.index.json", {"weight_map": {}})
        refused(folder, "model.broken_json")
        write_json(vae / f"{WEIGHTS}.index.json", {"weight_map": "x"})
        refused(folder, "model.unknown_config")

    def test_truncated_weights_name_file_and_sizes(self, folder: Path):
        path = folder / "vae" / WEIGHTS
        full_bytes = path.stat().st_size
        with path.open("rb+") as file:
            file.truncate(full_bytes - 7)
        error = refused(folder, "model.truncated")
        assert str(path) in error.message
        assert f"{full_bytes} bytes" in error.message
        assert f"{full_bytes - 7} bytes" in error.message

    @pytest.mark.parametrize(
        ("component", "entry"),
        [
            ("transformer", ["diffusers", "FluxTransformer2DModel"]),
            ("vae", ["diffusers", "AutoencoderKL"]),
            ("text_encoder", ["transformers", "T5EncoderModel"]),
            ("text_encoder", ["my_code", "Qwen3ForCausalLM"]),
            ("tokenizer", ["tokenizer_code", "Evil"]),
            ("scheduler", ["scheduler_code", "Evil"]),
            ("vae", [None, None]),
        ],
    )
    def test_component_of_another_class(self, folder: Path, component: str, entry: list[Any]):
        change_json(folder / "model_index.json", **{component: entry})
        assert component in refused(folder, "model.unknown_config").message

    @pytest.mark.parametrize("entry", ["text", [1, 2], ["diffusers"], {}])
    def test_component_entry_of_another_form(self, folder: Path, entry: Any):
        change_json(folder / "model_index.json", vae=entry)
        refused(folder, "model.unknown_config")

    @pytest.mark.parametrize(
        ("file", "change"),
        [
            ("transformer/config.json", {"_class_name": "FluxTransformer2DModel"}),
            ("transformer/config.json", {"num_layers": "five"}),
            ("transformer/config.json", {"num_layers": 0}),
            ("transformer/config.json", {"num_attention_heads": -2}),
            ("transformer/config.json", {"num_layers": 10**15}),
            ("transformer/config.json", {"num_single_layers": 3}),
            ("vae/config.json", {"_class_name": "AutoencoderKL"}),
            ("text_encoder/config.json", {"hidden_size": 0}),
            ("text_encoder/config.json", {"num_hidden_layers": 0}),
            ("text_encoder/config.json", {"num_hidden_layers": None}),
        ],
    )
    def test_config_we_cannot_run(self, folder: Path, file: str, change: dict[str, Any]):
        change_json(folder / file, **change)
        refused(folder, "model.unknown_config")

    def test_autoencoder_of_another_model(self, folder: Path):
        change_json(folder / "vae" / "config.json", latent_channels=16)
        message = refused(folder, "model.unknown_config").message
        assert "autoencoder" in message
        assert "16 latent channels" in message

    def test_text_encoder_of_another_model_names_both(self, folder: Path):
        change_json(folder / "text_encoder" / "config.json", hidden_size=20)
        message = refused(folder, "model.unknown_config").message
        assert "belongs to another model" in message
        assert str(folder / "text_encoder") in message
        assert str(folder / "transformer") in message

    def test_real_encoders_swapped_between_models(self, tmp_path: Path):
        for size, other in ((KLEIN_4B, KLEIN_9B), (KLEIN_9B, KLEIN_4B)):
            folder = make_folder(tmp_path / str(size.blocks), size)
            change_json(folder / "text_encoder" / "config.json", hidden_size=other.encoder_width)
            assert "belongs to another" in refused(folder, "model.unknown_config").message

    @pytest.mark.parametrize("component", ["transformer", "text_encoder"])
    def test_quantized_folder(self, folder: Path, component: str):
        change_json(
            folder / component / "config.json", quantization_config={"quant_method": "bitsandbytes"}
        )
        message = refused(folder, "model.unknown_config").message
        assert "bitsandbytes" in message
        assert component in message

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            # As diffusers and transformers write them.
            (
                {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False},
                "in 4 bits by bitsandbytes",
            ),
            (
                {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True},
                "in 8 bits by bitsandbytes",
            ),
            ({"quant_method": "quanto", "weights_dtype": "int8"}, "in int8 by quanto"),
            ({"quant_method": "modelopt", "quant_type": "NVFP4"}, "in NVFP4 by NVIDIA's ModelOpt"),
            ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "in NVFP4 by NVIDIA's ModelOpt"),
            ({"quant_method": "torchao", "quant_type": {"default": {}}}, "by torchao"),
            ({"quant_method": "newer"}, "by newer"),
            ({}, "by a method without a name"),
        ],
    )
    def test_what_others_quantized_is_told_with_what_to_do(
        self, folder: Path, config: dict[str, object], words: str
    ):
        change_json(folder / "transformer" / "config.json", quantization_config=config)
        message = refused(folder, "model.unknown_config").message
        where = f"The transformer in {folder} was quantized {words}, which cannot be read: "
        assert message.startswith(where)
        assert message.endswith(
            "use the model's bf16 folder, of which fp8, int8 or 4 bits are made here as you choose "
            "in Precision."
        )

    @pytest.mark.parametrize("dtype", ["U8", "I8"])
    def test_packed_weights_without_a_config(self, tmp_path: Path, dtype: str):
        # NVFP4 and bitsandbytes in single bytes, quanto in integers.
        folder = make_folder(tmp_path / "m", dtype=dtype)
        message = refused(folder, "model.unknown_config").message
        assert f"stored as {'uint8' if dtype == 'U8' else 'int8'}, a form that cannot be" in message
        assert "use the model's bf16 folder" in message

    def test_quantized_encoder_of_dev(self, tmp_path: Path):
        folder = make_folder(tmp_path / "m", dev=True)
        change_json(folder / "text_encoder" / "config.json", quantization_config={})
        assert "quantized" in refused(folder, "model.unknown_config").message

    def test_8_bit_weights(self, tmp_path: Path):
        folder = make_folder(tmp_path / "m", dtype="F8_E4M3")
        assert "float8_e4m3fn" in refused(folder, "model.unknown_config").message

    @pytest.mark.parametrize(
        ("file", "shapes"),
        [
            (f"transformer/{WEIGHTS}", {"x_embedder.weight": (1, 1)}),
            (f"vae/{WEIGHTS}", {"bn.running_mean": (64,)}),
            (f"vae/{WEIGHTS}", {"quant_conv.weight": (1,)}),
            ("text_encoder/model.safetensors", {"model.embed_tokens.weight": (8, 24)}),
        ],
    )
    def test_weights_of_another_network(
        self, folder: Path, file: str, shapes: dict[str, tuple[int, ...]]
    ):
        write_safetensors(folder / file, shapes)
        message = refused(folder, "model.unknown_config").message
        assert "not those of its config.json" in message

    def test_unreadable_file(self, folder: Path, deny: Callable[[Path], None]):
        deny(folder / "transformer" / "config.json")
        refused(folder, "model.unreadable")

    def test_unreadable_weights(self, folder: Path, deny: Callable[[Path], None]):
        deny(folder / "vae" / WEIGHTS)
        refused(folder, "model.unreadable")

    def test_unreadable_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def forbid(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", forbid)
        refused(tmp_path, "model.unreadable")


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make opening a file fail, also where the tests run as root."""
    real_open = Path.open

    def forbid(denied: Path) -> None:
        def open_unless_denied(path: Path, *arguments: Any, **options: Any) -> Any:
            if path == denied:
                raise PermissionError(13, "Permission denied", str(path))
            return real_open(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_unless_denied)

    return forbid

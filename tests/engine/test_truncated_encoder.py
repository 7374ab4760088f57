"""The truncated text encoder gives the bits of the whole one, through diffusers' own pipelines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.core.errors import ModelError
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_components import text_layers_read
from app.engine.model_folder import inspect_model_folder
from app.engine.text_encoding import encode_prompt
from tests.reference_pipeline import reference_pipeline
from tests.tiny_models import Kind, make_tiny_model

CPU = torch.device("cpu")
PROMPT = "a red circle to the left of a green square"


def load(folder: Path) -> LoadedModel:
    return load_model(inspect_model_folder(folder), model_key(folder), CPU, lambda: None)


def expected(folder: Path, layers: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return reference_pipeline(folder).encode_prompt(
            prompt=PROMPT, text_encoder_out_layers=layers
        )[0]


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "text_encoder" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    target = config.get("text_config", config)
    file.write_text(json.dumps({**config, **values} if target is config else config), "utf-8")


def drop_layers(folder: Path, layers: range) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    dropped = tuple(f"model.layers.{layer}." for layer in layers)
    weights = {n: tensor for n, tensor in load_file(file).items() if not n.startswith(dropped)}
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("dtype", "deep"),
    [(torch.float32, False), (torch.bfloat16, True)],
    ids=["shallow fp32", "deep bf16"],
)
@pytest.mark.parametrize("kind", ["klein", "dev"])
def test_embeddings_are_those_of_the_whole_encoder(
    tmp_path: Path, kind: Kind, dtype: torch.dtype, deep: bool
) -> None:
    folder = make_tiny_model(kind, tmp_path, dtype=dtype, deep=deep)
    model = load(folder)

    ours = encode_prompt(model.pipeline, model.info, PROMPT)

    assert torch.equal(ours, expected(folder, model.info.text_out_layers))
    assert ours.std() > 0.1


@pytest.mark.parametrize(("kind", "whole"), [("klein", 30), ("dev", 31)])
def test_nothing_is_built_past_the_last_layer_that_is_read(
    tmp_path: Path, kind: Kind, whole: int
) -> None:
    folder = make_tiny_model(kind, tmp_path, deep=True)
    model = load(folder)
    encoder = model.pipeline.text_encoder
    names = [name for name, _ in encoder.named_parameters()]

    assert len(encoder.model.layers) == text_layers_read(model.info.text_out_layers) < whole
    assert all(name.startswith("model.layers.") for name in names)
    # Nothing else is in the packed blocks, such as the table of embeddings.
    host = model.hosts["text_encoder"]
    assert [span.name for span in host.rest.layout.spans] == [
        "model.rotary_emb.inv_freq",
        "model.rotary_emb.original_inv_freq",
    ]


def test_last_norm_is_kept_where_it_is_read(tmp_path: Path) -> None:
    """An encoder with exactly as many layers as are read: its last hidden state is normalized."""
    folder = make_tiny_model("klein", tmp_path, deep=True)
    change_config(folder, num_hidden_layers=27, layer_types=["full_attention"] * 27)
    drop_layers(folder, range(27, 30))
    model = load(folder)
    assert model.info.text_out_layers == (9, 18, 27)

    ours = encode_prompt(model.pipeline, model.info, PROMPT)

    assert torch.equal(ours, expected(folder, (9, 18, 27)))
    assert "model.norm.weight" in dict(model.pipeline.text_encoder.named_parameters())


def rename(folder: Path, old: str, new: str) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    weights = {
        f"{new}{name.removeprefix(old)}" if name.startswith(old) else name: tensor
        for name, tensor in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("dev", "language_model.model.", "model.language_model."),
        ("klein", "model.", ""),
    ],
)
def test_names_of_other_versions_are_known(tmp_path: Path, kind: Kind, old: str, new: str) -> None:
    folder = make_tiny_model(kind, tmp_path)
    before = encode_prompt((model := load(folder)).pipeline, model.info, PROMPT)
    rename(folder, old, new)
    after = encode_prompt((model := load(folder)).pipeline, model.info, PROMPT)
    assert torch.equal(before, after)


def test_another_precision_converts_only_the_rows_that_are_looked_up(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path, dtype=torch.bfloat16)
    dtypes: dict[str, torch.dtype] = dict.fromkeys(
        ("text_encoder", "transformer", "vae"), torch.float32
    )
    info = inspect_model_folder(folder)
    model = load_model(info, model_key(folder), CPU, lambda: None, dtypes=dtypes)
    encoder = model.pipeline.text_encoder
    assert encoder.table.dtype == torch.bfloat16
    assert encoder.dtype == torch.float32

    whole = reference_pipeline(folder)
    whole.text_encoder.float()
    with torch.no_grad():
        theirs, _ids = whole.encode_prompt(
            prompt=PROMPT, text_encoder_out_layers=info.text_out_layers
        )
    assert torch.equal(encode_prompt(model.pipeline, info, PROMPT), theirs)


@pytest.mark.parametrize("dropped", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_only_missing_weights_that_are_read_are_refused(tmp_path: Path, dropped: str) -> None:
    folder = make_tiny_model("klein", tmp_path)
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    del weights[dropped]
    save_file(weights, file, metadata={"format": "pt"})
    if "norm" in dropped:
        load(folder)
        return
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.code == "model.incomplete"
    assert dropped in caught.value.details


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path)
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**weights, name: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.code == "model.incomplete"
    assert f"of another shape: {name}" in caught.value.details


def test_table_of_embeddings_is_a_view_of_the_file(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path)
    encoder = load(folder).pipeline.text_encoder
    file = folder / "text_encoder" / "model.safetensors"
    # The mapping is larger than the table: it is the whole file.
    assert encoder.table.untyped_storage().nbytes() == file.stat().st_size
    encoder.table = None
    with pytest.raises(RuntimeError, match="embeddings are not loaded"):
        encoder(torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.int64))

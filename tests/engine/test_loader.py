"""Loading: precision, refusals, and when a model counts as the same."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.core.errors import ModelError
from app.engine.cancel import CancelFlag, CancelRequestedError
from app.engine.loader import LoadedModel, load_model, model_key, networks
from app.engine.model_folder import inspect_model_folder
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")


def load(folder: Path, check: Callable[[], None] = lambda: None) -> LoadedModel:
    return load_model(inspect_model_folder(folder), model_key(folder), CPU, check)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_run_as_they_are_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    model = load(make_tiny_model("klein", tmp_path, dtype=dtype))
    for network in networks(model.pipeline).values():
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        assert not network.training


def test_each_network_keeps_its_own_precision(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path, dtype=torch.bfloat16)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})

    pipeline = load(folder).pipeline

    assert pipeline.transformer.dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.float32


def test_key_is_the_same_until_a_file_changes(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path)
    before = model_key(folder)
    assert model_key(folder) == before
    config = folder / "transformer" / "config.json"
    os.utime(config, ns=(0, 0))
    touched = model_key(folder)
    assert touched != before
    (folder / "vae" / "more.json").write_text("{}", "utf-8")
    assert model_key(folder) != touched


def test_key_of_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert model_key(tmp_path / "none") == (str(tmp_path / "none"), ())
    assert model_key(tmp_path / "zero\0byte")[1] == ()


def test_missing_tensor_is_refused_instead_of_made_up(tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    dropped = next(name for name in weights if "to_out" in name)
    del weights[dropped]
    save_file(weights, file, metadata={"format": "pt"})

    with pytest.raises(ModelError) as caught:
        load(folder)

    assert caught.value.code == "model.incomplete"
    assert str(folder / "transformer") in caught.value.message
    assert dropped in caught.value.details


def test_what_a_library_cannot_read_is_told_with_the_folder(
    tmp_path: Path, expect_log: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_tiny_model("klein", tmp_path)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    values = json.loads(scheduler.read_text("utf-8"))
    scheduler.write_text(json.dumps({**values, "time_shift_type": "sideways"}), "utf-8")
    expect_log("cannot be loaded", level="ERROR")

    with caplog.at_level(logging.ERROR), pytest.raises(ModelError) as caught:
        load(folder)

    assert caught.value.code == "model.load_failed"
    assert str(folder / "scheduler") in caught.value.message


@pytest.mark.parametrize("last", [3, 5, 40])
def test_loading_stops_between_components_and_within_them(tmp_path: Path, last: int) -> None:
    flag = CancelFlag()
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        if len(looks) == last:
            flag.set()
        flag.check()

    with pytest.raises(CancelRequestedError):
        load(make_tiny_model("klein", tmp_path), look)
    assert len(looks) == last

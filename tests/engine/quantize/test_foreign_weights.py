"""Weights that others have quantized: what runs is what plan, notices and pictures tell."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.core.events import Converting, ImageDone, Notice, PlanMade
from app.core.paths import app_paths, resource
from app.core.plan import GenerationPlan
from app.core.policy import MemoryPolicy, Precision, Precisions
from app.core.profile import DeviceProfile
from app.engine.coefficients import coefficients_for
from app.engine.compute_device import CpuDevice
from app.engine.kept_for_runs import KeptFolders, look_up
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_folder import inspect_model_folder
from app.engine.planner import plan_generation
from app.engine.planning.at_hand import AtHand
from app.engine.planning.precisions import file_bytes
from app.engine.run.preparing import AS_STORED_CODE
from app.engine.run.profiles import profiles_of
from tests.engine.planning_cases import PLENTY, asking, card, cpu
from tests.engine.quantize.test_stored_quantized import (
    row_scale,
    whole_scale,
    write_fp8,
    write_gguf,
)
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, record_of

DEMO = resource("models/demo")
FORMS = {"fp8": "fp8", "whole-fp8": "fp8", "Q8_0": "gguf Q8_0", "Q4_0": "gguf Q4_0"}


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, form: str) -> Path:
    made = tmp_path / "model"
    shutil.copytree(DEMO, made)
    (made / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    if form == "fp8":
        write_fp8(made, row_scale, "weight_scale")
    elif form == "whole-fp8":
        write_fp8(made, whole_scale, "scale_weight")
    else:
        write_gguf(made / "transformer" / "demo.gguf", form, outside="Q8_0")
    return made


def planned(
    folder: Path, device: DeviceProfile, wanted: Precision, at_hand: AtHand
) -> GenerationPlan:
    coefficients = coefficients_for(inspect_model_folder(folder), folder)
    assert coefficients is not None
    policy = MemoryPolicy(precisions=Precisions(text_encoder=Precision.FP32, transformer=wanted))
    return plan_generation(asking(128, 128), device, PLENTY, policy, coefficients, at_hand=at_hand)


def loaded(folder: Path) -> LoadedModel:
    info = inspect_model_folder(folder)
    return load_model(info, model_key(folder), torch.device("cpu"), lambda: None)


def near(found: int, wanted: int) -> bool:
    # Tensors begin at multiples of 512 bytes, and the demo's are small.
    return abs(found - wanted) < 0.05 * wanted


@pytest.mark.parametrize("device", [cpu(64), card(12)], ids=["cpu", "gpu"])
@pytest.mark.parametrize("wanted", [Precision.AUTO, Precision.FP8, Precision.NF4, Precision.BF16])
def test_a_plan_names_what_is_stored_and_promises_no_converting(folder, form, device, wanted):
    found = planned(folder, device, wanted, AtHand())
    part = found.component("transformer")
    assert (part.stored_as, part.runs_as) == (FORMS[form], FORMS[form])
    told = " ".join(found.reasons)
    assert "converted" not in told
    asked_other = wanted.value not in ("auto", FORMS[form])
    assert (f"The transformer in this folder is stored in {FORMS[form]}" in told) == asked_other


def test_a_plan_counts_the_bytes_that_run(folder):
    network = loaded(folder).hosts["transformer"].network
    really = sum(
        tensor.nbytes
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.device.type != "meta"
    )
    found = planned(folder, card(12), Precision.AUTO, AtHand()).component("transformer")
    assert near(found.weights_bytes, really), (found.weights_bytes, really)
    coefficients = coefficients_for(inspect_model_folder(folder), folder)
    assert coefficients is not None
    stored = sum(file.stat().st_size for file in (folder / "transformer").glob("*.[sg]*"))
    assert near(file_bytes(coefficients, "transformer", Precision.FP8), stored)
    assert sum(coefficients.block_bytes("transformer", Precision.BF16)) < found.weights_bytes
    assert len(coefficients.block_bytes("transformer", Precision.BF16)) == 6


def test_a_text_encoder_is_known_by_the_layers_that_run(tmp_path):
    made = tmp_path / "model"
    shutil.copytree(DEMO, made)
    (path,) = (made / "text_encoder").glob("*.safetensors")
    tensors = load_file(path)
    for name, tensor in list(tensors.items()):
        if "layers." in name and tensor.ndim == 2:
            tensors[name], tensors[f"{name}_scale"] = row_scale(tensor)
    save_file(tensors, path)
    (found,) = inspect_model_folder(made).foreign
    assert (found.component, found.stored_as) == ("text_encoder", "fp8")
    coefficients = coefficients_for(inspect_model_folder(made), made)
    assert coefficients is not None
    own = coefficients.networks["text_encoder"].block_bytes(Precision.FP8)
    assert len(found.block_bytes) == len(own)
    plain = inspect_model_folder(DEMO)
    assert plain.foreign == ()
    for ours, theirs in zip(own, found.block_bytes, strict=True):
        assert near(ours, theirs), (own, found.block_bytes)


def run(folder: Path, out: Path, wanted: Precision) -> list[Any]:
    job = make_job(folder, out, prompt="a circle", width_px=128, height_px=128, steps=1)
    precisions = Precisions(text_encoder=Precision.FP32, transformer=wanted)
    return Runs(CpuDevice()).run(replace(job, policy=replace(POLICY, precisions=precisions)))


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [Precision.NF4, Precision.AUTO])
def test_a_picture_tells_what_ran_and_one_notice_what_did_not(folder, form, tmp_path, wanted):
    events = run(folder, tmp_path / "out", wanted)
    record = record_of(of_kind(events, ImageDone)[0])
    assert record.precisions["transformer"] == FORMS[form]
    assert record.asked_precisions["transformer"] == wanted.value
    notices = [one for one in of_kind(events, Notice) if one.code == AS_STORED_CODE]
    assert len(notices) == (wanted is Precision.NF4)
    assert of_kind(events, Converting) == []
    parts = of_kind(events, PlanMade)[-1].plan.components
    assert {part.name: part.runs_as for part in parts}["transformer"] == FORMS[form]
    # Its prompt is known to the next plan: what looks it up knows how it ran.
    policy = MemoryPolicy(precisions=Precisions(text_encoder=Precision.FP32, transformer=wanted))
    profile, _host = profiles_of(CpuDevice(), None)
    folders = KeptFolders.of(app_paths(), keeps_embeddings=True)
    found = look_up(
        inspect_model_folder(folder), asking(128, 128, prompt="a circle"), profile, policy, folders
    )
    assert found.known_prompts == {(Precision.FP32, Precision.FP8)}

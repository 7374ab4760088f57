"""What is needed whatever the size: to load, the autoencoder that previews are fitted with."""

import pytest
import torch

from app.core.jobs import Phase
from app.core.plan import Placement
from app.core.policy import MemoryPolicy, Precision
from app.core.units import GIB, MIB
from app.engine.forecast.dry_run import DryRun
from app.engine.forecast.fused_kernels import FusedKernels
from app.engine.forecast.model_spec import known_spec
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.planning.any_size import AnySize
from app.engine.planning.problem import once, pose
from tests.engine.planning_cases import PLENTY, asking, card, model, plan


def test_previews_are_counted_as_the_autoencoder_encodes() -> None:
    network = DryRun(known_spec("klein-4b"), Precision.BF16).networks.autoencoder
    storages = PhaseStorages()
    with torch.no_grad(), FusedKernels(), storages:
        picture = torch.zeros(1, 3, 256, 256, dtype=torch.bfloat16, device="meta")
        network.encode(picture).latent_dist.mode()
    told = model("klein-4b").preview_fit_working_bytes(precision=Precision.BF16)
    assert storages.peak_bytes == pytest.approx(told, rel=0.01)


@pytest.mark.parametrize("gib", [6.0, 12.0, 24.0])
def test_loading_needs_the_autoencoder_whether_it_stays_or_not(gib: float) -> None:
    found = plan(asking(), card(gib))
    stays = {
        part.name: part.device_bytes
        for part in found.components
        if part.placement is Placement.RESIDENT
    }
    autoencoder = model().weights_bytes("autoencoder", Precision.BF16)
    load = found.phase(Phase.LOAD)
    assert load.weights_bytes == sum((stays | {"autoencoder": autoencoder}).values())
    assert load.working_bytes == model().preview_fit_working_bytes(precision=Precision.BF16)


def test_no_picture_is_made_smaller_for_previews() -> None:
    problem = pose(
        asking(), card(1, free_bytes=GIB // 2), PLENTY, MemoryPolicy(), model("klein-4b")
    )
    need = once(problem, AnySize).load(frozenset(), 1.0)
    assert (need.weights_bytes, need.forecast_bytes, need.seconds) == (0, 0, 1.0)
    roomy = pose(asking(), card(2), PLENTY, MemoryPolicy(headroom_bytes=0), model("klein-4b"))
    assert once(roomy, AnySize).load(frozenset(), 1.0).weights_bytes > 100 * MIB

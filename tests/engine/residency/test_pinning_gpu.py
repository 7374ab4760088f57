"""Locking RAM for a real GPU.

Not tried on a real GPU: none was at hand when this was written.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.engine.compute_device import AcceleratorDevice
from app.engine.loader import load_model, model_key
from app.engine.model_folder import inspect_model_folder
from app.engine.placement import Placer
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_store import HostStore
from app.engine.residency.pinning import CudaRegistrar, Pinning
from app.engine.residency.stored_block import paged_buffer
from app.engine.text_encoding import encode_prompt
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
MIB = 1 << 20


def gpu() -> torch.device:
    return torch.device("cuda", 0)


def test_memory_is_locked_in_place_and_copied_from() -> None:
    registrar = CudaRegistrar(gpu())
    buffer = paged_buffer(64 * MIB).random_()
    assert not buffer.is_pinned()
    assert registrar.lock(buffer) is buffer
    assert buffer.is_pinned()
    copied = torch.empty_like(buffer, device=gpu())
    copied.copy_(buffer, non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(copied.cpu(), buffer)
    registrar.unlock(buffer)
    assert not buffer.is_pinned()


def test_neighbours_are_locked_one_by_one() -> None:
    pinning = Pinning(CudaRegistrar(gpu()))
    buffers = [paged_buffer(size) for size in (512, 4096, 3 * MIB + 512, 512)]
    assert [pinning.pin(buffer) is buffer for buffer in buffers] == [True] * 4
    for buffer in buffers:
        pinning.unpin(buffer)
    assert pinning.pinned_bytes == 0


def test_refusal_leaves_no_error_for_the_next_kernel() -> None:
    registrar = CudaRegistrar(gpu())
    buffer = paged_buffer(MIB)
    assert registrar.lock(buffer) is buffer
    assert registrar.lock(buffer) is None, "it is locked already, which the driver refuses"
    # Raises if the refusal is still there.
    assert int(torch.ones(4, device=gpu()).sum().item()) == 4
    registrar.unlock(buffer)


@pytest.mark.parametrize("file_blocks", [(), (0, 2), (0, 1, 2)])
def test_every_tier_gives_the_same_numbers(tmp_path: Path, file_blocks: Sequence[int]) -> None:
    folder = make_tiny_model("klein", tmp_path, dtype=torch.bfloat16)
    info = inspect_model_folder(folder)
    found: list[torch.Tensor] = []
    for on_disk in ((), file_blocks):
        device = AcceleratorDevice(gpu())
        store = HostStore(Pinning(CudaRegistrar(gpu())))
        model = load_model(
            info,
            model_key(folder),
            gpu(),
            lambda: None,
            store=store,
            file_blocks={"text_encoder": on_disk},
        )
        host = model.hosts["text_encoder"]
        assert [block.tier for block in host.blocks] == [
            HostTier.FILE if index in on_disk else HostTier.PINNED for index in range(3)
        ]
        placer = Placer({"text_encoder": host}, device)
        placer.replace(
            [
                ComponentPlan(
                    name="text_encoder",
                    precision=Precision.BF16,
                    placement=Placement.STREAMED,
                    weights_bytes=0,
                    device_bytes=0,
                    streamed_blocks=(0, 1, 2),
                )
            ]
        )
        with placer.phase("text_encoder"):
            found.append(device.to_host(encode_prompt(model.pipeline, info, "a red circle")))
    assert torch.equal(found[0], found[1])

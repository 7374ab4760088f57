"""The copy computes the same, in full precision, and shares nothing with the original."""

import threading
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2

from app.core.paths import resource
from app.engine.full_precision import full_precision_copy


def test_copy_of_a_network_with_hooks_computes_alike():
    folder = resource("models/demo/vae")
    original: Any = AutoencoderKLFlux2.from_pretrained(folder, torch_dtype=torch.bfloat16)
    lock = threading.Lock()
    calls: list[int] = []

    def hook(*_inputs: object) -> None:
        with lock:
            calls.append(1)

    original.decoder.register_forward_pre_hook(hook)
    copy = full_precision_copy(original)
    expected: Any = AutoencoderKLFlux2.from_pretrained(folder, torch_dtype=torch.bfloat16)
    expected = torch.nn.Module.to(expected, torch.float32)

    latents = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(copy.decode(latents).sample, expected.eval().decode(latents).sample)
    assert not calls
    assert not copy.training
    assert {tensor.device.type for tensor in copy.state_dict().values()} == {"cpu"}
    assert original.dtype is torch.bfloat16
    own = {tensor.data_ptr() for tensor in copy.state_dict().values() if tensor.numel()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in original.state_dict().values())

"""A network of diffusers once more in full precision, for the CPU."""

from typing import Any

import torch


def full_precision_copy(network: Any) -> Any:  # noqa: ANN401 - a ModelMixin of diffusers
    """The same network with weights of its own in RAM and fp32, without the hooks on the other.

    `copy.deepcopy` would copy what the hooks hold as well, such as a device or a lock.
    """
    # Without memory at first: random weights would only be thrown away.
    with torch.device("meta"):
        copy: Any = network.__class__.from_config(network.config)
    weights = {
        name: tensor.detach().to("cpu", _dtype(tensor), copy=True)
        for name, tensor in network.state_dict().items()
    }
    copy.load_state_dict(weights, assign=True)
    return copy.eval()


def _dtype(tensor: torch.Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype

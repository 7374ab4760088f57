"""A GPU is tried when the engine starts; on stand-ins for torch's interfaces to it."""

import warnings

import pytest
import torch

from app.core.errors import SetupError
from app.engine import device_choice
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.device_choice import open_device

GPU = torch.device("cuda:0")
NO_KERNELS = (
    "CUDA error: no kernel image is available for execution on the device\nSearch for "
    "`cudaErrorNoKernelImageForDevice' for more information."
)
NAME = "NVIDIA GeForce GTX 1080"


def use(monkeypatch: pytest.MonkeyPatch, error: RuntimeError, *, named: bool = True) -> None:
    """A GPU that torch finds, and that raises this when it is used."""

    def fails(_device: torch.device) -> ComputeDevice:
        raise error

    def name(_device: torch.device) -> str:
        if not named:
            raise error
        return NAME

    monkeypatch.setattr(device_choice, "pick_device", lambda _choice: GPU)
    monkeypatch.setattr(device_choice, "real_device", fails)
    monkeypatch.setattr(device_choice, "device_name", name)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.AcceleratorError(NO_KERNELS), "was not built for NVIDIA GeForce GTX 1080"),
        (RuntimeError("HIP error: invalid device function"), "python -m installer setup"),
        (torch.AcceleratorError("CUDA error: out of memory"), "close other programs"),
        (torch.AcceleratorError("CUDA error: unknown error"), "restart the computer"),
    ],
)
def test_a_gpu_that_does_not_compute_is_told_with_a_remedy(
    error: RuntimeError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, error)
    with pytest.raises(SetupError) as caught:
        open_device("auto")
    assert said in caught.value.message
    assert NAME in caught.value.message
    assert caught.value.details == str(error)


def test_a_gpu_that_does_not_even_tell_its_name_has_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")
    use(monkeypatch, error, named=False)
    with pytest.raises(SetupError, match="The GPU cuda:0 does not answer"):
        open_device("cuda:0")


def test_a_gpu_is_computed_with_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device opens, and only what is computed on it fails."""
    use(monkeypatch, torch.AcceleratorError(NO_KERNELS))
    monkeypatch.setattr(device_choice, "real_device", lambda _device: CpuDevice())

    def ones(*_size: int, device: torch.device) -> torch.Tensor:
        assert device == GPU
        raise torch.AcceleratorError(NO_KERNELS)

    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(SetupError, match="was not built for"):
        open_device("auto")


TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080). "
    "Please update your GPU driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx (Triggered internally at CUDAFunctions.cpp:119.)"
)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (TOO_OLD, ["cannot use a GPU: The NVIDIA driver on your system is too old (found version"]),
        ("CUDA initialization: Found no NVIDIA driver on your system. Please check.", []),
        ("", []),
    ],
)
def test_why_a_torch_for_gpus_uses_none_is_told(
    told: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pick(_choice: str) -> torch.device:
        if told:
            warnings.warn(told, stacklevel=2)
        return torch.device("cpu")

    monkeypatch.setattr(device_choice, "pick_device", pick)
    heard: list[str] = []
    assert isinstance(open_device("auto", heard.append), CpuDevice)
    assert [words in one for words, one in zip(said, heard, strict=True)] == [True] * len(said)
    assert not any("Download" in one for one in heard)
    # Who has chosen the CPU knows.
    assert isinstance(open_device("cpu", pytest.fail), CpuDevice)

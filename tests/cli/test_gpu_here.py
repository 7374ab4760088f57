"""Which GPU a run from the command line would use."""

from collections.abc import Callable

import pytest

from app.cli import gpu_here as module
from app.cli.gpu_here import gpu_here
from app.core.errors import SetupError
from tests.fakes.hardware import FakeProbe, device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FakeProbe]]:
    """A machine with these GPUs, and a torch of this version."""

    def install(*gpus: float | None, torch: str = "2.13.0+cu130") -> list[FakeProbe]:
        probes = [FakeProbe(None if gib is None else device(total_gib=gib)) for gib in gpus]
        monkeypatch.setattr(module, "find_probes", lambda: tuple(probes))
        monkeypatch.setattr(module, "installed_torch", lambda: torch)
        return probes

    return install


@pytest.mark.parametrize(
    ("choice", "gib", "index"),
    [
        ("auto", (8, 24), 1),
        ("auto", (24, 8), 0),
        ("auto", (8, 8), 0),
        ("auto", (None, 8), 1),
        ("cuda", (8, 24), 0),
        ("cuda:1", (24, 8), 1),
    ],
)
def test_the_gpu_is_the_one_that_the_engine_would_take(
    machine: Callable[..., list[FakeProbe]], choice: str, gib: tuple[float | None, ...], index: int
):
    probes = machine(*gib)
    found = gpu_here(choice, pid=7)
    assert found is not None
    assert found.snapshot is probes[index].now
    assert found.driver == "fake 1.0"
    assert probes[index].asked_for == [7]
    assert all(probe.closed for probe in probes)


def test_runs_on_the_processor_have_none(machine: Callable[..., list[FakeProbe]]):
    machine(1)
    assert gpu_here("cpu") is None
    machine(1, torch="2.13.0+cpu")
    assert gpu_here("auto") is None
    machine()
    assert gpu_here("auto") is None
    machine(None)
    assert gpu_here("auto") is None


@pytest.mark.parametrize("gpus", [(), (1,), (1, None)])
def test_a_gpu_that_was_asked_for_must_be_there(
    machine: Callable[..., list[FakeProbe]], gpus: tuple[object, ...]
):
    machine(*gpus)
    with pytest.raises(SetupError, match="There is no GPU “cuda:1”"):
        gpu_here("cuda:1")

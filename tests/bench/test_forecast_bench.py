"""The forecast's bench as it runs on a GPU: small networks, an allocator that keeps accounts."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from app.core.paths import resource
from app.core.policy import Precision
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.forecast.model_spec import ModelSpec, spec_of
from app.engine.model_folder import inspect_model_folder
from app.engine.one_kernel import OneKernel
from app.engine.simulated_accounts import Accounts
from bench.forecast import NO_ROOM, GpuMeter, Row, Uncounted, gpu_benches, passes

pytestmark = pytest.mark.slow
SIZES_PX = (64, 272)
BATCHES = (1,)


@dataclass(slots=True)
class Capacity:
    """Of the card; an operation that would exceed it fails as torch's allocator does."""

    total_bytes: float
    accounts: Accounts | None = None

    def begin(self) -> None:
        """Nothing to do."""

    def finish(self, new_bytes: int, flops: int) -> None:
        """See whether there is room."""
        del flops
        if self.accounts is not None and self.accounts.held_bytes + new_bytes > self.total_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """All is where it belongs."""
        del tensor
        return False


class Card:
    """What the bench asks of torch.cuda.

    Attributes:
        accounts: Of all tensors that are made while the card is watched.
        emptied: How often the cache was given back.
    """

    def __init__(self, total_bytes: float = float("inf")) -> None:
        self._capacity = Capacity(total_bytes)
        self.accounts = self._capacity.accounts = Accounts(self._capacity)
        self.emptied = 0

    def empty_cache(self) -> None:
        self.emptied += 1

    def synchronize(self) -> None:
        """The CPU has always done what it was told."""

    def memory_allocated(self) -> int:
        return self.accounts.held_bytes

    def reset_peak_memory_stats(self) -> None:
        self.accounts.reset_peak()

    def max_memory_allocated(self) -> int:
        return self.accounts.peak_bytes


Model = tuple[ModelCoefficients, ModelSpec]


@pytest.fixture(scope="module")
def model() -> Model:
    coefficients = shipped_coefficients("demo")
    assert coefficients is not None
    return coefficients, spec_of(inspect_model_folder(resource("models/demo")))


def run(card: Card, model: Model, *precisions: Precision) -> list[Row]:
    meter = GpuMeter(Uncounted(card.accounts.off), card)
    with torch.no_grad(), OneKernel(card.accounts.run_as_one), card.accounts:
        benches = gpu_benches([model], precisions, device="cpu", meter=meter)
        return [row for bench in benches for row in bench.rows(SIZES_PX, BATCHES)]


@pytest.fixture(scope="module")
def rows(model: Model) -> Iterator[list[Row]]:
    card = Card()
    yield run(card, model, Precision.FP32, Precision.FP8)
    assert card.emptied


def test_each_phase_is_measured_in_each_precision(rows: list[Row]) -> None:
    cases = [(row.precision, row.phase, row.width_px, row.images, row.tile_px) for row in rows]
    sizes = [(side, images) for side in SIZES_PX for images in BATCHES]
    denoises = [("denoise", *size, None) for size in sizes]
    decodes = [("decode", 64, 1, None), ("decode", 272, 1, None), ("decode", 272, 1, 256)]
    assert cases == [
        ("fp32", "encode", 0, 1, None),
        *(("fp32", *one) for one in (*denoises, *decodes)),
        ("fp8", "encode", 0, 1, None),
        *(("fp8", *one) for one in denoises),
    ]


def test_what_is_measured_is_what_was_predicted(rows: list[Row]) -> None:
    for row in rows:
        assert row.measured_bytes, row
        assert not row.note
        assert passes(row), row
        # On a GPU's scale 100 MB are little; these networks need less than that in all.
        if row.precision == "fp32":
            assert row.predicted_bytes == pytest.approx(row.measured_bytes, rel=0.03), row


def test_what_does_not_fit_is_said_and_the_rest_is_measured(model: Model, rows: list[Row]) -> None:
    needed = sorted(row.measured_bytes or 0 for row in rows if row.precision == "fp32")
    found = run(Card(needed[-1]), model, Precision.FP32)
    assert len(found) == len(needed)
    noted = [row for row in found if row.note == NO_ROOM]
    assert 0 < len(noted) < len(found)
    assert all(row.measured_bytes is None and passes(row) for row in noted)
    assert "error_share" not in noted[0].as_json()


def test_a_card_without_room_for_the_networks_is_no_reason_to_stop(model: Model) -> None:
    found = run(Card(1000), model, Precision.FP32)
    assert {row.phase for row in found} == {"encode", "denoise", "decode"}
    assert {row.note for row in found} == {NO_ROOM}


def test_other_faults_are_no_lack_of_room(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(Card, "synchronize", fail)
    with pytest.raises(RuntimeError, match="illegal"):
        run(Card(), model, Precision.FP32)

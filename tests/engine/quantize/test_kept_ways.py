"""How 8-bit weights are multiplied is found out once on a device, and remembered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.paths import app_paths
from app.core.policy import Precision
from app.engine.broken_device import DeviceBrokenError
from app.engine.foreign_weights import ForeignWeights, tried_precision
from app.engine.quantize import kept_ways, ways
from app.engine.quantize.kept_ways import (
    CANDIDATES,
    MAX_BEGUN,
    Way,
    WayRecord,
    kept_way,
)
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.ways import PRODUCTS, probe, way_for

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")
NAME = "Test GPU"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "products.json"


def record(file: Path | None, dtype: str = "torch.bfloat16") -> WayRecord:
    """As a new process reads it."""
    return WayRecord(file, NAME, Precision.FP8, dtype)


class Gpu:
    """A GPU of which only the name is there, and trials that end as they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.best = Way.FP8_ROWS
        self.trials: list[tuple[Precision, torch.dtype]] = []
        self._patch = monkeypatch
        monkeypatch.setattr(ways, "device_name", lambda _device: NAME)
        monkeypatch.setattr(ways, "probe", self._probe)
        self.restart()

    def restart(self) -> None:
        """The engine knows nothing but what is on the disk."""
        self._patch.setattr(ways, "_found", {})

    def _probe(
        self, precision: Precision, _device: torch.device, dtype: torch.dtype, _record: WayRecord
    ) -> Way:
        self.trials.append((precision, dtype))
        return self.best


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def test_what_was_found_out_holds_for_later_engines(gpu: Gpu) -> None:
    assert way_for(Precision.FP8, GPU, torch.bfloat16) is Way.FP8_ROWS
    # Times that are close may turn out otherwise the next time.
    gpu.best = Way.DEQUANTIZE
    gpu.restart()
    assert way_for(Precision.FP8, GPU, torch.bfloat16) is Way.FP8_ROWS
    assert gpu.trials == [(Precision.FP8, torch.bfloat16)]


def test_that_nothing_is_gained_is_remembered_as_well(gpu: Gpu) -> None:
    gpu.best = Way.DEQUANTIZE
    way_for(Precision.INT8, GPU, torch.bfloat16)
    gpu.restart()
    assert way_for(Precision.INT8, GPU, torch.bfloat16) is Way.DEQUANTIZE
    assert len(gpu.trials) == 1


def test_another_type_precision_device_or_torch_is_tried_anew(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_for(Precision.FP8, GPU, torch.bfloat16)
    way_for(Precision.FP8, GPU, torch.float16)
    way_for(Precision.INT8, GPU, torch.bfloat16)
    gpu.restart()
    monkeypatch.setattr(ways, "device_name", lambda _device: "Another GPU")
    way_for(Precision.FP8, GPU, torch.bfloat16)
    gpu.restart()
    monkeypatch.setattr(kept_ways, "_torch_version", lambda: "99.0")
    way_for(Precision.FP8, GPU, torch.bfloat16)
    assert len(gpu.trials) == 5


def test_plans_read_what_runs_have_found(gpu: Gpu) -> None:
    def known(precision: Precision | None, dtype: str, *, on_cpu: bool = False) -> Way | None:
        return kept_way(app_paths().products_file, NAME, precision, dtype, on_cpu=on_cpu)

    assert known(Precision.FP8, "torch.bfloat16") is None
    way_for(Precision.FP8, GPU, torch.bfloat16)
    assert known(Precision.FP8, "torch.bfloat16") is Way.FP8_ROWS
    assert known(Precision.FP8, "torch.float16") is None
    assert known(Precision.FP8, "torch.float16", on_cpu=True) is Way.DEQUANTIZE
    assert known(Precision.NF4, "torch.bfloat16") is Way.DEQUANTIZE
    assert known(None, "torch.bfloat16") is Way.DEQUANTIZE


@pytest.fixture
def small_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "TRIAL_TOKENS", 64)
    monkeypatch.setattr(ways, "TRIAL_FEATURES", 64)


def tried(file: Path | None, dtype: torch.dtype = torch.bfloat16) -> Way:
    """By a clock that stands still: nothing is ever gained."""
    found = record(file, str(dtype))
    return probe(Precision.FP8, CPU, dtype, found, clock_s=lambda: 0.0)


class Called:
    """Products that note who was called, and do something besides."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, first: Callable[..., Any] = lambda *_: None
    ) -> None:
        self.ways: list[Way] = []
        for way in CANDIDATES[Precision.FP8]:
            also = first if way is Way.FP8_ROWS else (lambda *_: None)
            monkeypatch.setitem(PRODUCTS, way, self._product(way, also))

    def _product(self, way: Way, also: Callable[..., Any]) -> Callable[..., torch.Tensor]:
        plain = PRODUCTS[way]

        def product(*inputs: torch.Tensor) -> torch.Tensor:
            self.ways.append(way)
            also()
            return plain(*inputs)

        return product


def breaks() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.usefixtures("small_trial")
def test_what_breaks_the_device_is_left_out_by_the_next_engine(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = Called(monkeypatch, breaks)
    with monkeypatch.context() as broken:
        broken.setattr(ways, "still_computes", lambda _device: False)
        with pytest.raises(DeviceBrokenError, match="illegal memory access"):
            tried(file)
    assert called.ways == [Way.FP8_ROWS]
    for dtype in (torch.bfloat16, torch.float16):
        called.ways.clear()
        tried(file, dtype)
        assert set(called.ways) == {Way.FP8_SCALED_AFTER}


@pytest.mark.usefixtures("small_trial")
def test_what_only_fails_leaves_no_mark(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = Called(monkeypatch, breaks)
    for _ in range(MAX_BEGUN + 1):
        called.ways.clear()
        tried(file)
        assert set(called.ways) == set(CANDIDATES[Precision.FP8])


@pytest.mark.usefixtures("small_trial")
def test_what_ends_the_engine_each_time_is_left_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes] = []
    called = Called(monkeypatch, lambda: kept.append(file.read_bytes()))
    for _ in range(MAX_BEGUN):
        tried(file)
        # As it was when the process ended in the middle.
        file.write_bytes(kept[-1])
    called.ways.clear()
    tried(file)
    assert set(called.ways) == {Way.FP8_SCALED_AFTER}


@pytest.mark.usefixtures("small_trial")
def test_without_memory_nothing_is_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("no room")

    Called(monkeypatch, full)
    with pytest.raises(torch.OutOfMemoryError):
        tried(file)
    assert not record(file).leaves_out(Way.FP8_ROWS)
    assert record(file).way is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema_version": 99}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_made_anew(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert record(file).way is None
    record(file).note_chosen(Way.FP8_ROWS)
    assert record(file).way is Way.FP8_ROWS


def test_where_nothing_can_be_written_it_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file where the folder should be")
    found = record(tmp_path / "taken" / "products.json")
    found.note_chosen(Way.FP8_ROWS)
    assert found.way is Way.FP8_ROWS


def test_the_oldest_go(file: Path) -> None:
    for number in range(kept_ways.MAX_ENTRIES + 1):
        WayRecord(file, f"GPU {number}", Precision.FP8, "bfloat16").note_chosen(Way.FP8_ROWS)
    assert WayRecord(file, "GPU 0", Precision.FP8, "bfloat16").way is None
    assert WayRecord(file, "GPU 1", Precision.FP8, "bfloat16").way is Way.FP8_ROWS


def test_only_weights_in_8_bits_are_multiplied_in_several_ways() -> None:
    def foreign(stored_as: str, *, e4m3: bool) -> ForeignWeights:
        return ForeignWeights(
            component="transformer",
            stored_as=stored_as,
            precision=Precision.FP8,
            block_bytes=(),
            outside_bytes=None,
            e4m3=e4m3,
        )

    assert tried_precision(None, None) is None
    assert tried_precision(Recipe(precision=Precision.INT8), None) is Precision.INT8
    assert tried_precision(Recipe(precision=Precision.NF4), None) is None
    assert tried_precision(None, foreign("fp8", e4m3=True)) is Precision.FP8
    assert tried_precision(None, foreign("fp8", e4m3=False)) is None
    assert tried_precision(None, foreign("gguf Q8_0", e4m3=False)) is None

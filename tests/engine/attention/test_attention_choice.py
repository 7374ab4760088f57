"""Kinds are tried on the device, the best is chosen, and trials are kept."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.core.policy import Attention
from app.core.request import GenerationRequest
from app.engine.attention import chooser
from app.engine.attention.chooser import FAST, AttentionChooser
from app.engine.attention.dispatch import kernel_of
from app.engine.attention.ranking import Trial, best_of
from app.engine.attention.shape import AttentionShape, trial_shape
from app.engine.compute_device import CpuDevice
from tests.fakes import attention_libraries

SHAPE = AttentionShape(tokens=192, heads=2, head_width=16, dtype="bfloat16")


class Gpu(CpuDevice):
    """A GPU whose clock and memory move as the kernels on it say."""

    kind = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self.name = "Test GPU"
        self.now_s = 0.0
        self.peak = 0

    def clock_s(self) -> float:
        return self.now_s

    def allocated_bytes(self) -> int:
        return 1000

    def reset_peak(self) -> None:
        self.peak = 1000

    def peak_bytes(self) -> int:
        return self.peak


class Bench:
    """A GPU, kernels that each take their time and memory, and who was called."""

    def __init__(self, folder: Path, there: dict[Attention, tuple[float, float]]) -> None:
        """`there`: seconds, and memory in sizes of the queries, of each kind."""
        self.gpu = Gpu()
        self.there = there
        self.called: list[Attention] = []
        self.instead: dict[Attention, Callable[..., torch.Tensor]] = {}
        self.file = folder / "attention.json"
        self.chooser = self.new_chooser()

    def new_chooser(self) -> AttentionChooser:
        return AttentionChooser(
            self.gpu,
            self.file,
            kernels=self._kernel,
            absent=lambda kind: "" if kind in self.there else "not installed",
        )

    def choose(self, wanted: Attention = Attention.AUTO) -> Attention:
        return self.chooser.choose(wanted, SHAPE).kind

    def _kernel(self, kind: Attention) -> Callable[..., torch.Tensor]:
        seconds, sizes = self.there[kind]
        compute = self.instead.get(kind, kernel_of(Attention.MATH))

        def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            self.called.append(kind)
            self.gpu.now_s += seconds
            self.gpu.peak = 1000 + round(sizes * query.nbytes)
            return compute(query, key, value)

        return run


USUAL = {Attention.SDPA: (1.0, 1.0), Attention.FLASH: (0.99, 1.0), Attention.EFFICIENT: (2.0, 1.0)}


def test_the_fastest_is_chosen(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.5, 1.0)})
    assert bench.choose() is Attention.FLASH_ATTN
    assert set(bench.called) == set(bench.there)


def test_what_is_hardly_faster_than_torchs_own_is_not_worth_it(tmp_path: Path) -> None:
    assert Bench(tmp_path, USUAL).choose() is Attention.SDPA


def test_what_needs_more_memory_than_the_forecast_says_is_not_taken_unasked(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.CUDNN: (0.1, 4.0)})
    assert bench.choose() is Attention.SDPA
    assert bench.choose(Attention.CUDNN) is Attention.CUDNN


def test_without_any_fused_kernel_attention_is_computed_in_parts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {Attention.SDPA: (1.0, 100.0)})
    assert bench.choose() is Attention.CHUNKED


def test_rough_kernels_are_for_those_who_ask(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.SAGE: (0.1, 1.0)})
    bench.instead[Attention.SAGE] = lambda q, k, v: 1.05 * kernel_of(Attention.MATH)(q, k, v)
    assert bench.choose() is Attention.SDPA
    assert bench.choose(Attention.SAGE) is Attention.SAGE


@pytest.mark.parametrize(
    "broken",
    [
        lambda q, k, v: torch.zeros_like(q),
        lambda q, k, v: torch.full_like(q, float("nan")),
        lambda q, k, v: q.transpose(1, 2),
    ],
    ids=["wrong", "no numbers", "another layout"],
)
def test_wrong_results_are_seen(tmp_path: Path, broken: Any) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.XFORMERS: (0.1, 1.0)})
    bench.instead[Attention.XFORMERS] = broken
    assert bench.choose() is Attention.SDPA
    choice = bench.chooser.choose(Attention.XFORMERS, SHAPE)
    assert choice.kind is Attention.SDPA
    assert choice.problem == (
        "Xformers cannot be used here, so torch's own attention is (its results are wrong)."
    )


def test_wrong_results_for_a_number_of_tokens_that_fills_no_tiles_are_seen(tmp_path: Path) -> None:
    math = kernel_of(Attention.MATH)

    def padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Counts what is behind the last token in its tile of 64, too."""
        more = (0, 0, 0, 0, 0, -key.shape[1] % 64)
        key = torch.nn.functional.pad(key, more)
        return math(query, key, torch.nn.functional.pad(value, more, value=99.0))

    bench = Bench(tmp_path, {**USUAL, Attention.XFORMERS: (0.1, 1.0)})
    bench.instead[Attention.XFORMERS] = padded
    assert bench.choose() is Attention.SDPA
    choice = bench.chooser.choose(Attention.XFORMERS, replace(SHAPE, tokens=1024))
    assert "wrong" in choice.problem


def test_values_are_tried_as_single_blocks_have_them(tmp_path: Path) -> None:
    def contiguous_only(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        if not value.is_contiguous():
            raise RuntimeError("value must be contiguous")
        return kernel_of(Attention.MATH)(query, key, value)

    bench = Bench(tmp_path, {**USUAL, Attention.XFORMERS: (0.1, 1.0)})
    bench.instead[Attention.XFORMERS] = contiguous_only
    assert bench.choose() is Attention.SDPA


def test_what_torch_says_of_kernels_that_it_does_not_use_is_not_heard(tmp_path: Path) -> None:
    def complaining(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        warnings.warn("Flash attention kernel not used because:", stacklevel=1)
        return kernel_of(Attention.MATH)(query, key, value)

    bench = Bench(tmp_path, {**USUAL, Attention.XFORMERS: (0.1, 1.0)})
    bench.instead[Attention.XFORMERS] = complaining
    # Warnings are errors in tests.
    assert bench.choose() is Attention.XFORMERS


def test_trials_keep_within_vram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Windows what is too much would lie in RAM, and its times would be kept."""
    kept: list[object] = []
    monkeypatch.setattr(chooser, "keep_in_vram", kept.append)
    bench = Bench(tmp_path, USUAL)
    bench.choose()
    bench.choose()
    assert kept == [bench.gpu]


def test_a_gpu_that_wakes_up_does_not_make_what_is_tried_first_seem_slow(tmp_path: Path) -> None:
    """Its first calls take longer, whatever they compute."""
    bench = Bench(tmp_path, dict.fromkeys((Attention.SDPA, Attention.FLASH), (0.02, 1.0)))
    math = kernel_of(Attention.MATH)

    def slow_at_first(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        bench.gpu.now_s += max(0.0, 0.03 - 0.1 * bench.gpu.now_s)
        return math(query, key, value)

    bench.instead = dict.fromkeys(bench.there, slow_at_first)
    assert bench.choose() is Attention.SDPA


def test_what_fails_is_told_and_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.1, 1.0)})

    def fails(*_inputs: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image is available for execution on the device\nsecond line")

    bench.instead[Attention.FLASH_ATTN] = fails
    assert bench.choose() is Attention.SDPA
    problem = bench.chooser.choose(Attention.FLASH_ATTN, SHAPE).problem
    assert "RuntimeError: no kernel image is available for execution on the device)." in problem
    assert "not installed" in bench.chooser.choose(Attention.SAGE, SHAPE).problem


def test_trials_are_kept_over_restarts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.5, 1.0)})
    bench.choose()
    bench.called.clear()
    bench.chooser = bench.new_chooser()
    assert bench.choose() is Attention.FLASH_ATTN
    assert not bench.called

    bench.gpu.name = "Another GPU"
    bench.choose()
    assert set(bench.called) == set(bench.there)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema_version": 1, "entries": 3}', b"\xff"])
def test_a_broken_file_only_costs_new_trials(tmp_path: Path, content: bytes) -> None:
    bench = Bench(tmp_path, USUAL)
    bench.file.write_bytes(content)
    bench.chooser = bench.new_chooser()
    assert bench.choose() is Attention.SDPA
    bench.called.clear()
    bench.chooser = bench.new_chooser()
    bench.choose()
    assert not bench.called


def test_a_kind_that_ends_the_process_is_tried_twice_only(tmp_path: Path) -> None:
    class ProcessEndedError(BaseException):
        pass

    def ends(*_inputs: torch.Tensor) -> torch.Tensor:
        raise ProcessEndedError

    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.1, 1.0)})
    bench.instead[Attention.FLASH_ATTN] = ends
    for _ in range(2):
        with pytest.raises(ProcessEndedError):
            bench.choose()
        bench.chooser = bench.new_chooser()
    assert bench.choose() is Attention.SDPA


class BrokenContext(TorchDispatchMode):
    """Once broken, whatever is computed fails with the error that broke it, as CUDA has it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        del types
        if self.error is not None:
            raise self.error
        return function(*arguments, **(named or {}))

    def wild_kernel(self, *_inputs: torch.Tensor) -> torch.Tensor:
        self.error = torch.AcceleratorError(
            "CUDA error: an illegal memory access was encountered\nmore"
        )
        raise self.error


def test_a_kind_that_breaks_the_device_is_the_only_one_blamed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.5, 1.0)})
    context = BrokenContext()
    bench.instead[Attention.FLASH] = context.wild_kernel
    with context, pytest.raises(SystemExit, match="torch's flash attention was tried"):
        bench.choose()
    # Nothing was tried on the broken device after it.
    assert bench.called[-1] is Attention.FLASH
    assert Attention.FLASH_ATTN not in bench.called

    bench.called.clear()
    bench.chooser = bench.new_chooser()
    with BrokenContext():
        assert bench.choose() is Attention.FLASH_ATTN
    assert Attention.FLASH not in bench.called
    assert Attention.SDPA not in bench.called  # Its trial from before counts.
    # Asked for by name at another shape it is not run again, either.
    bench.called.clear()
    wider = replace(SHAPE, heads=4)
    assert "illegal memory access" in bench.chooser.choose(Attention.FLASH, wider).problem
    assert not bench.called


def test_a_kind_that_merely_fails_leaves_the_others_to_be_tried(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.5, 1.0)})

    def fails(*_inputs: torch.Tensor) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution")

    bench.instead[Attention.FLASH] = fails
    with BrokenContext():
        assert bench.choose() is Attention.FLASH_ATTN
    assert set(bench.called) == set(bench.there)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_says_nothing_about_next_time(
    tmp_path: Path, error: RuntimeError
) -> None:
    bench = Bench(tmp_path, {**USUAL, Attention.FLASH_ATTN: (0.1, 1.0)})

    def runs_out(*_inputs: torch.Tensor) -> torch.Tensor:
        raise error

    bench.instead[Attention.FLASH_ATTN] = runs_out
    assert bench.choose() is Attention.SDPA
    del bench.instead[Attention.FLASH_ATTN]
    assert bench.choose() is Attention.FLASH_ATTN


def test_without_memory_for_trials_torch_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_out(*_arguments: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("app.engine.attention.chooser.Trials", runs_out)
    bench = Bench(tmp_path, USUAL)
    assert bench.choose() is Attention.SDPA
    assert not bench.called


def test_on_the_cpu_nothing_is_tried_unasked(tmp_path: Path) -> None:
    chooser = AttentionChooser(CpuDevice(), tmp_path / "attention.json")
    assert chooser.choose(Attention.AUTO, SHAPE).kind is Attention.SDPA
    assert chooser.choose(Attention.CHUNKED, SHAPE).kind is Attention.CHUNKED
    assert not (tmp_path / "attention.json").exists()
    # torch has no such kernel there.
    choice = chooser.choose(Attention.EFFICIENT, SHAPE)
    assert choice.kind is Attention.SDPA
    assert choice.problem.startswith("Torch's memory-efficient attention cannot be used here")


def test_libraries_are_tried_through_diffusers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = attention_libraries.install(monkeypatch)
    chooser = AttentionChooser(CpuDevice(), tmp_path / "attention.json")
    for kind in (Attention.SAGE, Attention.FLASH_ATTN, Attention.XFORMERS):
        assert chooser.choose(kind, SHAPE).kind is kind
    assert list(dict.fromkeys(libraries.calls)) == ["sage", "flash-attn", "xformers"]


@pytest.mark.parametrize("own_error", [0.0, 0.03])
def test_as_exact_as_torchs_own_is_exact(own_error: float) -> None:
    trials = [
        Trial(kind=Attention.SDPA, error=own_error, seconds=1.0),
        Trial(kind=Attention.XFORMERS, error=0.05, seconds=0.1),
    ]
    wanted = Attention.XFORMERS if own_error else Attention.SDPA
    assert best_of(trials, dtype="bfloat16", query_bytes=1) is wanted


def test_shapes_of_like_size_share_a_trial() -> None:
    def tokens(side_px: int) -> int:
        request = GenerationRequest(prompt="x", width_px=side_px, height_px=side_px)
        return trial_shape(request, heads=24, head_width=128, dtype="bfloat16").tokens

    assert [tokens(side) for side in (128, 1024, 1040, 4096)] == [1024, 5120, 5120, 8192]
    shape = AttentionShape(tokens=5120, heads=24, head_width=128, dtype="bfloat16")
    assert shape.query_bytes == 5120 * 24 * 128 * 2
    assert shape.key == "5120x24x128 bfloat16"


def test_every_kind_but_the_plain_ones_is_tried() -> None:
    left = set(Attention) - set(FAST)
    assert left == {Attention.AUTO, Attention.MATH, Attention.CHUNKED}

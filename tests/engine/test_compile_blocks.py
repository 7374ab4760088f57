"""Blocks run compiled where that works, and as before where it does not."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from app.core.policy import Attention, Precision
from app.engine import compile_blocks
from app.engine.attention.dispatch import use_attention
from app.engine.broken_device import DeviceBrokenError
from app.engine.cancel import CancelFlag, CancelPoints, CancelRequestedError
from app.engine.compile_begun import BegunCompiling
from app.engine.compile_blocks import BlockCompiler
from app.engine.compute_device import CpuDevice
from app.engine.placement import Placer
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import quantize_network
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_network import packed_network
from tests.engine_runs import simulated
from tests.fakes.block_stack import DeviceWith, plan_of
from tests.fakes.transfers import LateTransfers
from tests.tiny_models import make_tiny_transformer

QUICK = "eager"
"""Finds out what a block computes like the real one, and then runs it without a C++ compiler."""


@pytest.fixture(autouse=True)
def _forgets() -> Any:
    yield
    torch.compiler.reset()


@pytest.fixture
def transformer() -> Any:
    return make_tiny_transformer(double_blocks=2, single_blocks=3)


@torch.no_grad()
def forward(transformer: Any, tokens: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return transformer(
        hidden_states=torch.randn(1, tokens, 16, generator=generator),
        encoder_hidden_states=torch.randn(1, 8, 24, generator=generator),
        timestep=torch.tensor([0.5]),
        img_ids=torch.zeros(1, tokens, 4),
        txt_ids=torch.zeros(1, 8, 4),
        return_dict=False,
    )[0]


def compiler(folder: Path, backend: str = QUICK) -> BlockCompiler:
    return BlockCompiler(CpuDevice(), folder, backend=backend)


def blocks_of(transformer: Any) -> tuple[torch.nn.Module, ...]:
    return streamable_blocks("transformer", transformer)


def graphs() -> int:
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def no_words(sentence: str) -> None:
    pytest.fail(sentence)


def move_weights(blocks: Any, factor: float) -> None:
    """Other numbers at other addresses, as when the weights of a block come in again."""
    for block in blocks:
        for module in block.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    module._parameters[name] = torch.nn.Parameter(weight.detach() * factor)


def test_each_kind_of_block_is_compiled_once_wherever_its_weights_are(
    transformer: Any, tmp_path: Path
) -> None:
    # Takes apart like the real one, too.
    blocks, ours = blocks_of(transformer), compiler(tmp_path, "aot_eager")
    before = graphs()
    plain = forward(transformer)
    with ours.compiled(blocks, no_words):
        torch.testing.assert_close(forward(transformer), plain)
        assert graphs() == before + 2  # A double and a single block.
        move_weights(blocks, 1.25)
        moved = forward(transformer)
        assert graphs() == before + 2
    assert not torch.allclose(moved, plain)
    torch.testing.assert_close(moved, forward(transformer))
    # The next job finds what was compiled.
    move_weights(blocks, 0.8)
    with ours.compiled(blocks, no_words):
        torch.testing.assert_close(forward(transformer), plain)
    assert graphs() == before + 2


@pytest.mark.parametrize("quantized", [False, True])
def test_compiled_blocks_whose_weights_stream_have_the_same_results(
    transformer: Any, tmp_path: Path, quantized: bool
) -> None:
    """Through slots that hold NaN until their weights are there, with changes of the plan."""
    if quantized:
        quantize_network(transformer, Recipe(precision=Precision.INT8))
    plain = forward(transformer)
    host = packed_network("transformer", transformer)
    transfers = LateTransfers()
    placer = Placer({"transformer": host}, DeviceWith(transfers))
    blocks, ours = blocks_of(transformer), compiler(tmp_path, "aot_eager")
    before = graphs()
    with ours.compiled(blocks, no_words), placer.phase("transformer"):
        # With room for several, every other one, none, and all with the least room.
        for streamed, slots_bytes in ((range(5), 1 << 16), ((0, 2, 4), 0), ((), 0), (range(5), 0)):
            placer.replace([plan_of(tuple(streamed), slots_bytes=slots_bytes)])
            for _step in range(2):
                torch.testing.assert_close(forward(transformer), plain)
        assert graphs() == before + 2
        assert transfers.copies > 2 * len(blocks)
    assert not transfers.held
    assert torch.equal(forward(transformer), plain)


def test_outside_nothing_is_left_of_it(transformer: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        compiler(tmp_path).compiled(blocks_of(transformer), no_words),
    ):
        raise KeyError
    assert not any("forward" in vars(block) for block in blocks_of(transformer))


def test_hooks_around_blocks_run_each_time(transformer: Any, tmp_path: Path) -> None:
    points, blocks, seen = CancelPoints(), blocks_of(transformer), []
    points.watch(transformer)
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _inputs: seen.append(module))
    with compiler(tmp_path).compiled(blocks, no_words):
        forward(transformer)
        forward(transformer)
        assert seen == [*blocks, *blocks]
        compiled = graphs()
        points.flag.set()
        with pytest.raises(CancelRequestedError):
            forward(transformer)
        assert graphs() == compiled


def test_attention_in_parts_can_be_compiled(transformer: Any, tmp_path: Path) -> None:
    plain = forward(transformer)
    use_attention(transformer, Attention.CHUNKED)
    with compiler(tmp_path).compiled(blocks_of(transformer), no_words):
        torch.testing.assert_close(forward(transformer), plain)


def test_a_compiler_that_fails_is_given_up_and_told_once(transformer: Any, tmp_path: Path) -> None:
    told: list[str] = []
    ours = BlockCompiler(CpuDevice(), tmp_path, backend=QUICK)
    plain = forward(transformer)

    def fails(*_inputs: Any, **_named: Any) -> Any:
        raise RuntimeError("CppCompileError: C++ compile error.\nCommand: g++")

    ours.compile = lambda forward: fails
    with ours.compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
        assert torch.equal(forward(transformer), plain)
    sentence = "The blocks run without being compiled: RuntimeError: CppCompileError: C++"
    assert told == [f"{sentence} compile error."]
    with ours.compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
    assert told == [told[0]] * 2


def test_another_size_that_cannot_be_compiled_runs_as_before(
    transformer: Any, tmp_path: Path
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    told: list[str] = []
    ours = compiler(tmp_path)
    compile_one = ours.compile

    def compile_small(forward: Any) -> Any:
        compiled = compile_one(forward)

        def run(*values: Any, **named: Any) -> Any:
            if named["hidden_states"].shape[1] > 30:
                raise TorchDynamoException("too large")
            return compiled(*values, **named)

        return run

    ours.compile = compile_small
    large = forward(transformer, 40)
    with ours.compiled(blocks_of(transformer), told.append):
        forward(transformer)
        assert not told
        assert torch.equal(forward(transformer, 40), large)
    assert told == ["The blocks run without being compiled: TorchDynamoException: too large."]


def test_wrong_results_are_not_used(transformer: Any, tmp_path: Path) -> None:
    told: list[str] = []
    ours = compiler(tmp_path)
    plain = forward(transformer)

    def wrong(forward: Any) -> Any:
        def run(*values: Any, **named: Any) -> Any:
            found = forward(*values, **named)
            return tuple(one * 1.01 for one in found) if isinstance(found, tuple) else found * 1.01

        return run

    ours.compile = wrong
    with ours.compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
    assert told == ["The blocks run without being compiled: compiled, they gave other results."]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), CancelRequestedError()])
def test_memory_and_cancelling_are_no_failures_of_compiling(
    transformer: Any, tmp_path: Path, error: Exception
) -> None:
    def fails(*_inputs: Any, **_named: Any) -> Any:
        raise error

    ours = compiler(tmp_path)
    ours.compile = lambda forward: fails
    with (
        ours.compiled(blocks_of(transformer), no_words),
        pytest.raises(type(error)),
    ):
        forward(transformer)
    assert not ours.problem


def test_a_job_is_cancelled_while_a_block_compiles(transformer: Any, tmp_path: Path) -> None:
    flag, compiled = CancelFlag(), []

    def takes_long(graph: Any, _inputs: Any) -> Any:
        compiled.append(graph)
        flag.set()
        # Far longer than until the flag is looked at, and not for ever.
        return graph.forward if sum(1 for _ in range(2_000_000_000)) else None

    torch._dynamo.register_backend(takes_long, name="takes_long")
    ours = compiler(tmp_path, "takes_long")
    plain = forward(transformer)
    with (
        pytest.raises(CancelRequestedError),
        ours.compiled(blocks_of(transformer), no_words, check=flag.check),
    ):
        forward(transformer)
    assert len(compiled) == 1
    assert not ours.problem
    assert msgspec.json.decode((tmp_path / "begun.json").read_bytes())["entries"].popitem()[1] == []
    # The next job compiles as if nothing had been.
    torch._dynamo.register_backend(lambda graph, _inputs: graph.forward, name="takes_long_no_more")
    ours = compiler(tmp_path, "takes_long_no_more")
    with ours.compiled(blocks_of(transformer), no_words, check=CancelFlag().check):
        torch.testing.assert_close(forward(transformer), plain)
    assert ours.is_checked(type(blocks_of(transformer)[0]))


def test_without_a_compiler_blocks_run_as_before(
    transformer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(compile_blocks, "obstacle", lambda _device: "there is no C++ compiler")
    plain = forward(transformer)
    ours = BlockCompiler(CpuDevice(), tmp_path)
    with ours.compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
    assert told == ["The blocks run without being compiled: there is no C++ compiler."]


class Gpu(CpuDevice):
    """A GPU as far as a compiler asks."""

    kind = "cuda"


def test_a_compiler_that_ends_the_engine_is_tried_twice_only(
    transformer: Any, tmp_path: Path
) -> None:
    class Ended(BaseException):
        """Stands for the end of the process."""

    def ends(*_inputs: Any, **_named: Any) -> Any:
        raise Ended

    plain = forward(transformer)
    for _engine in range(2):
        ours = compiler(tmp_path)
        ours.compile = lambda forward: ends
        with pytest.raises(Ended), ours.compiled(blocks_of(transformer), no_words):
            forward(transformer)
    told: list[str] = []
    with compiler(tmp_path).compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
    (sentence,) = told
    assert "the engine ended each time" in sentence


def test_ends_of_the_engine_while_compiling_are_forgotten_after_a_day(tmp_path: Path) -> None:
    now_s = [1e9]
    for _engine in range(2):
        begun = BegunCompiling(tmp_path / "begun.json", "GPU", clock=lambda: now_s[0])
        assert not begun.too_often
        begun.begin()
    now_s[0] += 3600
    assert BegunCompiling(tmp_path / "begun.json", "GPU", clock=lambda: now_s[0]).too_often
    assert not BegunCompiling(tmp_path / "begun.json", "Another", clock=lambda: now_s[0]).too_often
    now_s[0] += 24 * 3600
    begun = BegunCompiling(tmp_path / "begun.json", "GPU", clock=lambda: now_s[0])
    assert not begun.too_often
    begun.never_again()
    now_s[0] += 30 * 24 * 3600
    assert BegunCompiling(tmp_path / "begun.json", "GPU", clock=lambda: now_s[0]).too_often


def test_compiling_that_went_well_or_failed_is_tried_by_every_engine(
    transformer: Any, tmp_path: Path
) -> None:
    def fails(*_inputs: Any, **_named: Any) -> Any:
        raise RuntimeError("no")

    for _engine in range(3):
        ours = compiler(tmp_path)
        ours.compile = lambda forward: forward
        with ours.compiled(blocks_of(transformer), no_words):
            forward(transformer)
        told: list[str] = []
        ours = compiler(tmp_path)
        ours.compile = lambda forward: fails
        with ours.compiled(blocks_of(transformer), told.append):
            forward(transformer)
        assert told == ["The blocks run without being compiled: RuntimeError: no."]


def test_compiled_code_that_breaks_the_gpu_is_not_made_again(
    transformer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_inputs: Any, **_named: Any) -> Any:
        monkeypatch.setattr(compile_blocks, "still_computes", lambda _device: False)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    plain = forward(transformer)
    ours = BlockCompiler(Gpu(), tmp_path, backend=QUICK)
    ours.compile = lambda forward: breaks
    with (
        pytest.raises(DeviceBrokenError, match="illegal memory access"),
        ours.compiled(blocks_of(transformer), no_words),
    ):
        forward(transformer)
    told: list[str] = []
    after = BlockCompiler(Gpu(), tmp_path, backend=QUICK)
    with after.compiled(blocks_of(transformer), told.append):
        assert torch.equal(forward(transformer), plain)
    assert len(told) == 1


@pytest.mark.parametrize("error", [ValueError("no config fits"), KeyError("grid")])
def test_whatever_compiled_code_raises_later_it_runs_as_before(
    transformer: Any, tmp_path: Path, error: Exception
) -> None:
    """As Triton does, which is no part of torch."""
    told: list[str] = []
    ours = compiler(tmp_path)

    def compile_small(forward: Any) -> Any:
        def run(*values: Any, **named: Any) -> Any:
            if named["hidden_states"].shape[1] > 30:
                raise error
            return forward(*values, **named)

        return run

    ours.compile = compile_small
    large = forward(transformer, 40)
    with ours.compiled(blocks_of(transformer), told.append):
        forward(transformer)
        assert torch.equal(forward(transformer, 40), large)
    assert len(told) == 1


def test_a_simulated_gpu_has_no_compiler() -> None:
    assert compile_blocks.obstacle(simulated()) == "a simulated GPU has no compiler"


class Small(torch.nn.Module):
    """A block that is quick to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(self.linear(hidden_states)) * 0.5 + hidden_states


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_blocks_compile_on_this_computer(tmp_path: Path) -> None:
    blocks = [Small().eval() for _ in range(3)]
    values = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = [block(values) for block in blocks]
        ours = BlockCompiler(CpuDevice(), tmp_path)
        with ours.compiled(blocks, no_words):
            for block, wanted in zip(blocks, plain, strict=True):
                torch.testing.assert_close(block(values), wanted)
    assert ours.is_checked(Small)

"""Compiling the blocks of a transformer, one kind of block once, while their weights come and go.

Only what a block computes is compiled: what is hooked around it (its weights coming in, the look at
whether the job is to stop) runs as before. Weights are inputs of the compiled code, so it does not
mind where they are, if only it is at a multiple of 16 bytes as when it was compiled: torch takes
that for granted of weights (pytorch#193054), and packed blocks see to it. On GPUs not tried yet.
"""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from app.engine.broken_device import DeviceBrokenError, still_computes
from app.engine.cancel import CancelRequestedError
from app.engine.compile_begun import BegunCompiling
from app.engine.compute_device import ComputeDevice
from app.engine.interruptible import InterruptedWorkError, interruptible
from app.engine.live_storages import tensors_in
from app.engine.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

BACKEND = "inductor"
MAX_VARIANTS = 64
"""Of one kind of block: sizes, and weights of different kinds; torch stops at 8 by itself."""
TOLERANCES = {torch.float32: 1e-3}
"""How far compiled results may be off, relative to those of the same block not compiled."""
TOLERANCE = 0.05
"""In types of lower precision."""
_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_BEGUN_NAME = "begun.json"


def _never() -> None:
    """Nothing is to stop."""


class BlockCompiler:
    """Compiles blocks on one device; gives it up for good when that fails.

    Attributes:
        problem: Why nothing is compiled here any more, as half a sentence; "" while it works.
    """

    def __init__(self, device: ComputeDevice, cache: Path, *, backend: str = BACKEND) -> None:
        """Compile nothing yet.

        Args:
            device: To compute on.
            cache: Folder for what is compiled, found again by later engines.
            backend: Of torch.compile.
        """
        self.problem = ""
        self._device = device
        self._cache = cache
        self._backend = backend
        self._check: Callable[[], None] = _never
        # One object for good: torch compiles again for another one.
        self._compiler: Callable[[Any, Any], Any] = self._compile_graph
        self._checked: set[type] = set()
        self._ready = False
        self._begun = BegunCompiling(cache / _BEGUN_NAME, device.name)

    @contextlib.contextmanager
    def compiled(
        self,
        blocks: Sequence[torch.nn.Module],
        tell: Callable[[str], None],
        *,
        check: Callable[[], None] = _never,
    ) -> Generator[None]:
        """Have blocks run compiled meanwhile, where that works.

        Args:
            blocks: Of any kinds.
            tell: Takes a sentence when they do not run compiled.
            check: Looked at while one is being compiled; raises CancelRequestedError to stop it.
        """
        if not self._prepare():
            tell(self._sentence())
            yield
            return
        kinds = {type(block) for block in blocks}
        for block in blocks:
            block.forward = _CompiledForward(self, block, tell)
        log.info("%d blocks of %d kinds run compiled", len(blocks), len(kinds))
        self._check = check
        try:
            yield
        finally:
            self._check = _never
            for block in blocks:
                # The method of its class is behind it.
                del block.forward

    def compile(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A function that compiles itself when it is first called."""
        compile_function: Any = getattr(torch, "compile")  # noqa: B009 - has no full type
        with _without_deprecations():
            return compile_function(forward, backend=self._compiler)

    def _compile_graph(self, graph: Any, inputs: Any) -> Any:  # noqa: ANN401 - torch's own
        backend: Any = _module("torch._dynamo").lookup_backend(self._backend)
        with interruptible(self._check):
            return backend(graph, inputs)

    def is_checked(self, kind: type) -> bool:
        """Whether a block of this kind has run compiled, with the right results."""
        return kind in self._checked

    def note_checked(self, kind: type) -> None:
        """One has."""
        self._checked.add(kind)

    def give_up(self, problem: str, tell: Callable[[str], None]) -> None:
        """Compile no more."""
        if not self.problem:
            self.problem = problem
            tell(self._sentence())

    @contextlib.contextmanager
    def trial(self) -> Generator[None]:
        """Around what compiles a kind of block, and runs it for the first time.

        Raises:
            DeviceBrokenError: That broke the device; a new process goes on without compiling.
        """
        self._begun.begin()
        try:
            yield
        except InterruptedWorkError:
            self._begun.end()
            raise
        except Exception as error:
            if not self._still_computes():
                self._begun.never_again()
                raise DeviceBrokenError(
                    f"{self._device.name} stopped working when compiled blocks ran "
                    f"({_reason(error)}); they are not compiled again."
                ) from error
            self._begun.end()
            raise
        self._begun.end()

    def _still_computes(self) -> bool:
        device = self._device
        return device.kind == "cpu" or device.simulated or still_computes(device.torch_device)

    def _sentence(self) -> str:
        return f"The blocks run without being compiled: {self.problem}."

    def _prepare(self) -> bool:
        if not self.problem and not self._ready:
            self.problem = "" if self._backend != BACKEND else obstacle(self._device)
            if self._begun.too_often:
                self.problem = "the engine ended each time when that was tried"
            self._ready = not self.problem
            if self._ready:
                os.environ.setdefault(_CACHE_VARIABLE, str(self._cache))
                _configure()
        return not self.problem


class _CompiledForward:
    """What a block computes, compiled; as it was before when that fails."""

    def __init__(
        self, compiler: BlockCompiler, block: torch.nn.Module, tell: Callable[[str], None]
    ) -> None:
        self._compiler = compiler
        self._kind = type(block)
        self._plain: Callable[..., Any] = block.forward
        self._compiled = compiler.compile(block.forward)
        self._tell = tell

    def __call__(self, *values: Any, **named: Any) -> Any:  # noqa: ANN401 - the block's own
        """Compute."""
        if self._compiler.problem:
            return self._plain(*values, **named)
        is_first = not self._compiler.is_checked(self._kind)
        # In the trial, the result of a block that is not compiled is there to compare with.
        plain = self._plain(*values, **named) if is_first else None
        failure = ""
        try:
            if not is_first:
                return self._compiled(*values, **named)
            with self._compiler.trial(), _without_deprecations():
                compiled = self._compiled(*values, **named)
                alike = _is_like(compiled, plain)
            if alike:
                self._compiler.note_checked(self._kind)
                return compiled
            failure = "compiled, they gave other results"
        except InterruptedWorkError as error:
            raise self._cancelled() from error
        except CancelRequestedError:
            raise
        # A compiler raises whatever it meets, also later, for another size.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.info("%s cannot be compiled", self._kind.__name__, exc_info=True)
            failure = _reason(error)
        self._compiler.give_up(failure, self._tell)
        return plain if is_first else self._plain(*values, **named)

    def _cancelled(self) -> CancelRequestedError:
        # What is half compiled is forgotten; the whole is found again in the cache folder.
        torch.compiler.reset()
        return CancelRequestedError()


def obstacle(device: ComputeDevice) -> str:
    """Why nothing can be compiled for a device, as half a sentence; "" when it can be tried."""
    if device.simulated:
        return "a simulated GPU has no compiler"
    if not _module("torch._dynamo").is_dynamo_supported():
        return "torch cannot compile with this Python"
    if device.kind == "cpu":
        builder = _module("torch._inductor.cpp_builder")
        try:
            builder.get_cpp_compiler()
        except RuntimeError:
            return "there is no C++ compiler on this computer"
        return ""
    if not _module("torch.utils._triton").has_triton():
        return "Triton, which torch compiles with, is not installed for this GPU"
    return ""


def _configure() -> None:
    # Worker processes would hold on to our pipes, and outlive an engine that is killed.
    _module("torch._inductor.config").compile_threads = 1
    config = _module("torch._dynamo.config")
    config.recompile_limit = max(MAX_VARIANTS, config.recompile_limit)


def _is_like(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - results of a block
    pairs = list(zip(tensors_in(found), tensors_in(wanted), strict=True))
    return all(_is_close(one, other) for one, other in pairs)


def _is_close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    off = (found.float() - wanted.float()).square().sum()
    allowed = TOLERANCES.get(wanted.dtype, TOLERANCE) ** 2 * wanted.float().square().sum()
    return bool(off <= allowed)


def _reason(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first_line}"


@contextlib.contextmanager
def _without_deprecations() -> Generator[None]:
    """Torch's compiler uses what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _module(name: str) -> Any:  # noqa: ANN401 - torch's compiler has no full types
    with _without_deprecations():
        return importlib.import_module(name)

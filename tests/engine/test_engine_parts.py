"""The small parts of the engine process."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX
from app.core.errors import SetupError
from app.core.jobs import Phase
from app.engine.compute_device import CpuDevice
from app.engine.devices import pick_device, run_dtype
from app.engine.embedding_cache import EmbeddingCache
from app.engine.engine_memory import MemoryMeter
from app.engine.model_folder import inspect_model_folder
from app.engine.out_of_memory import (
    is_of_host,
    is_out_of_memory,
    memory_name,
    out_of_memory_error,
)
from app.engine.prompt_cut import prompt_cut_message
from app.engine.save_guard import SaveGuard
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
MIB = 1024**2


def test_cache_drops_what_was_not_used_for_longest() -> None:
    cache = EmbeddingCache(capacity_bytes=3 * 40)
    for prompt in ("a", "b", "c"):
        cache.put(prompt, torch.full((1, 2, 5), float(ord(prompt))))
    assert cache.get("a") is not None
    cache.put("d", torch.zeros(1, 2, 5))
    assert [prompt in cache for prompt in "abcd"] == [True, False, True, True]
    assert cache.get("b") is None


def test_cache_keeps_a_copy_and_counts_a_replaced_entry_once() -> None:
    cache = EmbeddingCache(capacity_bytes=2 * 40)
    original = torch.zeros(1, 2, 5)
    cache.put("a", original)
    original += 1
    kept = cache.get("a")
    assert kept is not None
    assert not kept.any()
    for _ in range(5):
        cache.put("a", original)
    cache.put("b", original)
    assert "a" in cache
    assert "b" in cache


def test_cache_keeps_one_entry_that_is_larger_than_it_is() -> None:
    cache = EmbeddingCache(capacity_bytes=10)
    cache.put("a", torch.zeros(1, 2, 5))
    assert "a" in cache
    cache.put("b", torch.zeros(1, 2, 5))
    assert "a" not in cache
    assert "b" in cache


@pytest.mark.parametrize("choice", ["gpu", "cuda:x", "", "cpu:1", "cuda:-1"])
def test_unknown_device_is_refused(choice: str) -> None:
    with pytest.raises(SetupError) as caught:
        pick_device(choice)
    assert caught.value.code == "setup.device"


def test_device_that_is_not_there_is_named() -> None:
    with pytest.raises(SetupError, match=r"cuda:77 was asked for, but .* of its kind"):
        pick_device("cuda:77")


def test_cpu_runs_weights_as_stored() -> None:
    assert pick_device("cpu") == CPU
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert run_dtype(CPU, dtype) is dtype


def test_meter_sees_a_peak_that_is_over() -> None:
    meter = MemoryMeter(CpuDevice())
    meter.start_job()
    before = meter.measure()
    block = bytearray(b"x") * (96 * MIB)
    held = meter.measure()
    del block
    after = meter.measure()
    assert held.host_rss_bytes > before.host_rss_bytes + 64 * MIB
    assert after.host_peak_rss_bytes >= held.host_rss_bytes
    assert after.device_allocated_bytes is after.device_reserved_bytes is None
    assert after.device_peak_bytes is None
    meter.start_job()
    assert meter.measure().host_peak_rss_bytes < after.host_peak_rss_bytes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to ..."), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 1.00 GiB"), True),
        (
            RuntimeError(
                "level_zero backend failed with error: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"
            ),
            True,
        ),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("unable to mmap 9 bytes from file <a>: Cannot allocate memory (12)"), True),
        (RuntimeError("Couldn't open file mapping: <a>, error code: <1455>"), True),
        (SafetensorError("The paging file is too small (os error 1455)"), True),
        (SafetensorError("Error while deserializing header: invalid header"), False),
        (RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling ..."), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True),
        (RuntimeError("miopenStatusAllocFailed"), True),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), True),
        (RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator"'), True),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("MIOpen Error: Memory not available to allocate buffer: 655360000"), True),
        (RuntimeError("PI_ERROR_MEM_OBJECT_ALLOCATION_FAILURE"), True),
        (RuntimeError("CL_OUT_OF_HOST_MEMORY"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError("out of memory when writing image file"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_running_out_of_memory_is_told_apart(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_running_out_of_memory_is_seen_behind_what_a_library_makes_of_it() -> None:
    error = ValueError("Unable to create tensor")
    assert not is_out_of_memory(error)
    error.__context__ = RuntimeError("CUDA error: out of memory")
    assert is_out_of_memory(error)
    assert not is_of_host(error)
    error.__cause__ = MemoryError()
    assert is_of_host(error)


def test_a_real_cpu_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_out_of_memory_names_phase_and_remedy() -> None:
    name = memory_name(of_host=is_of_host(RuntimeError("full")))
    error = out_of_memory_error(name, Phase.DENOISE, details="full")
    assert error.code == "engine.out_of_memory"
    assert error.message.startswith("The GPU's memory ran out while denoising: choose a smaller")
    assert error.details == "full"
    name = memory_name(of_host=is_of_host(MemoryError()))
    error = out_of_memory_error(name, Phase.LOAD, details="")
    assert error.message.startswith("This computer's memory ran out while the model was loaded")
    assert "smaller model" in error.message


def test_out_of_memory_says_when_strict_mode_stood_in_the_way() -> None:
    error = out_of_memory_error("The GPU's memory", Phase.DECODE, details="", strict=True)
    assert "strict mode" in error.message
    error = out_of_memory_error("The GPU's memory", Phase.ENCODE, details="", strict=True)
    assert "strict mode" not in error.message


def test_guard_waits_for_the_file_that_is_being_written(tmp_path: Path) -> None:
    guard = SaveGuard()
    inside, finish = threading.Event(), threading.Event()

    def write() -> None:
        with guard.writing(tmp_path):
            inside.set()
            finish.wait()
            (tmp_path / "whole").touch()

    writer = threading.Thread(target=write)
    writer.start()
    inside.wait()
    closer = threading.Thread(target=guard.close, args=(60.0,))
    closer.start()
    finish.set()
    closer.join()
    assert (tmp_path / "whole").exists()
    writer.join()


def test_guard_removes_what_is_not_finished_in_time(tmp_path: Path) -> None:
    guard = SaveGuard()
    ours = tmp_path / f"{PARTIAL_PREFIX}{os.getpid()}-0{PARTIAL_SUFFIX}"
    others = tmp_path / f"{PARTIAL_PREFIX}1-0{PARTIAL_SUFFIX}"
    with guard.writing(tmp_path):
        ours.touch()
        others.touch()
        guard.close(0.0)
    assert not ours.exists()
    assert others.exists()


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return {
        kind: inspect_model_folder(make_tiny_model(kind, tmp_path_factory.mktemp(kind)))
        for kind in ("klein", "dev")
    }


@pytest.mark.parametrize("kind", ["klein", "dev"])
def test_end_of_a_long_prompt_is_named(infos: Any, kind: str) -> None:
    message = prompt_cut_message(infos[kind], "word " * 110 + "and a red hat")
    assert message is not None
    assert "reads 512" in message
    assert "and a red hat”" in message


@pytest.mark.parametrize("kind", ["klein", "dev"])
def test_much_that_is_cut_is_shortened(infos: Any, kind: str) -> None:
    message = prompt_cut_message(infos[kind], "word " * 2000)
    assert message is not None
    assert message.endswith("…”")
    assert len(message) < 500


def test_a_prompt_that_fits_needs_no_words(infos: Any) -> None:
    assert prompt_cut_message(infos["klein"], "a red circle") is None
    assert prompt_cut_message(infos["klein"], "x" * 300) is None


def test_cpu_is_named_for_people() -> None:
    from app.engine.devices import device_name

    name = device_name(torch.device("cpu"))
    assert name.startswith("CPU (")
    assert name.endswith(")")
    assert len(name) > len("CPU ()")

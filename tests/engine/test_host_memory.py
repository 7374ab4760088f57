"""Settings of the allocators, and when memory is given back."""

import ctypes
import sys

import psutil
import pytest

from app.core.units import GIB, MIB
from app.engine.host_memory import (
    ALLOCATOR_VARIABLE,
    KERNELS_VARIABLES,
    choose_allocator_settings,
    give_back_host_memory,
    segments_grow,
    should_release,
)


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_segments_grow_where_the_driver_can(platform: str) -> None:
    environment: dict[str, str] = {}
    choose_allocator_settings(environment, platform=platform)
    assert (ALLOCATOR_VARIABLE in environment) is (platform == "linux")
    assert set(KERNELS_VARIABLES) <= environment.keys()


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_what_is_forecast_is_what_the_engine_chooses(platform: str) -> None:
    environment: dict[str, str] = {}
    assert segments_grow("cuda", environment, platform=platform) is (platform == "linux")
    choose_allocator_settings(environment, platform=platform)
    assert segments_grow("cuda", environment, platform=platform) is (platform == "linux")
    assert not segments_grow("xpu", environment, platform=platform)
    chosen = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}
    assert not segments_grow("cuda", chosen, platform=platform)


@pytest.mark.parametrize("name", [ALLOCATOR_VARIABLE, "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_has_chosen_stays(name: str) -> None:
    environment = {name: "max_split_size_mb:128", **dict.fromkeys(KERNELS_VARIABLES, "7")}
    before = dict(environment)
    choose_allocator_settings(environment, platform="linux")
    assert environment == before


def test_a_cache_is_given_back_when_it_is_large() -> None:
    used = {"allocated_bytes": 2 * GIB, "total_bytes": 8 * GIB}
    assert not should_release(reserved_bytes=2 * GIB + 500 * MIB, **used)
    assert should_release(reserved_bytes=4 * GIB, **used)


@pytest.mark.skipif(sys.platform != "linux", reason="others do it by themselves")
def test_freed_pieces_between_others_go_back_to_the_system() -> None:
    process = psutil.Process()
    give_back_host_memory()
    # Below the size from which the C library maps memory, so that pieces lie side by side.
    pieces = [ctypes.create_string_buffer(b"x" * 100_000, 100_000) for _ in range(1500)]
    full = process.memory_info().rss
    del pieces[::2]
    give_back_host_memory()
    given_back = full - process.memory_info().rss
    assert given_back > 50 * MIB
    assert len(pieces) == 750

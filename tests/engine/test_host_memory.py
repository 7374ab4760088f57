"""Settings of the allocators, and when memory is given back."""

import ctypes
import sys
from dataclasses import replace

import psutil
import pytest

from app.core.units import GIB, MIB
from app.engine.host_memory import (
    ALLOCATOR_VARIABLE,
    KERNELS_VARIABLES,
    OLDER_VARIABLE,
    System,
    choose_torch_settings,
    give_back_host_memory,
    segments_grow,
    should_release,
)

LINUX = System(platform="linux", release="6.8.0-45-generic", torch_version="2.13.0+cu130")
WINDOWS = replace(LINUX, platform="win32", release="11")
WSL = replace(LINUX, release="6.6.87.2-microsoft-standard-WSL2")


def chosen(system: System) -> dict[str, str]:
    environment: dict[str, str] = {}
    choose_torch_settings(environment, system=system)
    return environment


@pytest.mark.parametrize(
    ("system", "grows"),
    [
        (LINUX, True),
        (replace(LINUX, torch_version="2.13.0"), True),
        (WINDOWS, False),
        (replace(LINUX, platform="darwin"), False),
        # Its calls to the driver fail there.
        (WSL, False),
        (replace(LINUX, torch_version="2.13.0+xpu"), False),
        (replace(LINUX, torch_version="2.13.0+rocm7.2"), False),
    ],
)
def test_segments_grow_where_the_driver_can(system: System, grows: bool) -> None:
    environment = chosen(system)
    assert (ALLOCATOR_VARIABLE in environment) is grows
    assert OLDER_VARIABLE not in environment
    assert set(KERNELS_VARIABLES) <= environment.keys()


@pytest.mark.parametrize("version", ["2.9.1+cu128", "2.10.0+cu130"])
def test_torch_is_told_under_the_name_that_it_heeds(version: str) -> None:
    environment = chosen(replace(LINUX, torch_version=version))
    assert ALLOCATOR_VARIABLE not in environment
    assert environment[OLDER_VARIABLE] == "expandable_segments:True"
    assert ALLOCATOR_VARIABLE in chosen(replace(LINUX, torch_version="2.11.0"))


@pytest.mark.parametrize("system", [LINUX, WINDOWS, WSL, replace(LINUX, torch_version="2.9.1")])
def test_what_is_forecast_is_what_the_engine_chooses(system: System) -> None:
    grows = system.can_grow
    assert segments_grow("cuda", {}, system=system) is grows
    assert segments_grow("cuda", chosen(system), system=system) is grows
    assert not segments_grow("xpu", chosen(system), system=system)
    assert not segments_grow("cuda", {OLDER_VARIABLE: "max_split_size_mb:128"}, system=system)


def test_who_asks_for_growing_segments_in_wsl_has_them_forecast() -> None:
    assert segments_grow("cuda", {ALLOCATOR_VARIABLE: "expandable_segments:True"}, system=WSL)


@pytest.mark.parametrize("name", [ALLOCATOR_VARIABLE, OLDER_VARIABLE])
def test_what_the_user_has_chosen_stays(name: str) -> None:
    environment = {
        name: "max_split_size_mb:128",
        "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL": "0",
        "CUDA_DEVICE_ORDER": "FASTEST_FIRST",
        "MIOPEN_FIND_MODE": "NORMAL",
        **dict.fromkeys(KERNELS_VARIABLES, "7"),
    }
    before = dict(environment)
    choose_torch_settings(environment, system=LINUX)
    assert environment == before


def test_gpus_are_numbered_as_their_driver_does() -> None:
    assert (
        chosen(LINUX)["CUDA_DEVICE_ORDER"] == chosen(WINDOWS)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    )


def test_amd_s_kernels_are_used_and_not_searched_for_long() -> None:
    amd = replace(LINUX, torch_version="2.13.0+rocm7.2")
    assert chosen(amd)["TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL"] == "1"
    assert chosen(amd)["MIOPEN_FIND_MODE"] == "FAST"


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

import re

import pytest

from installer.torch_build import (
    Machine,
    NvidiaGpu,
    choose_torch_build,
    kind_of_label,
    named_choice,
    runs_here,
)


def nvidia(driver: int, capability: tuple[int, int] | None, system: str = "Linux") -> Machine:
    return Machine(
        system=system, nvidia=(NvidiaGpu(name="GPU", driver=driver, capability=capability),)
    )


@pytest.mark.parametrize("system", ["Linux", "Windows"])
@pytest.mark.parametrize(
    ("driver", "capability", "indexes"),
    [
        (580, (8, 9), ("cu130", "cu128", "cu126")),
        (999, (7, 5), ("cu130", "cu128", "cu126")),
        (579, (8, 9), ("cu128", "cu126")),
        (570, (8, 6), ("cu128", "cu126")),
        (569, (8, 6), ("cu126",)),
        (525, (8, 0), ("cu126",)),
        # Blackwell: no kernels in the 12.6 build.
        (580, (12, 0), ("cu130", "cu128")),
        (572, (10, 0), ("cu128",)),
        # Volta, then Pascal and Maxwell: dropped by the newer builds.
        (580, (7, 0), ("cu126",)),
        (580, (6, 1), ("cu126",)),
        (580, (5, 2), ("cu126",)),
        # A driver that does not tell the capability.
        (530, None, ("cu126",)),
    ],
)
def test_nvidia_build_fits_driver_and_gpu(system, driver, capability, indexes):
    choice = choose_torch_build(nvidia(driver, capability, system))
    assert choice.kind == "cuda"
    assert choice.indexes == indexes


@pytest.mark.parametrize(
    ("driver", "capability"), [(470, (8, 6)), (524, None), (560, (12, 0)), (580, (3, 5))]
)
def test_nvidia_that_cannot_be_used_gets_cpu_and_the_remedy(driver, capability):
    choice = choose_torch_build(nvidia(driver, capability))
    assert choice.kind == "cpu"
    assert choice.indexes == ("cpu",)
    assert "update" in choice.reason


def test_a_driver_that_does_not_answer_is_why_the_processor_computes():
    problem = "the NVIDIA driver does not answer; restart the computer"
    choice = choose_torch_build(Machine(system="Linux", nvidia_problem=problem))
    assert (choice.kind, choice.reason) == ("cpu", problem)
    beside = Machine(system="Linux", nvidia_problem=problem, amd_targets=("gfx1100",))
    assert choose_torch_build(beside).kind == "rocm"


@pytest.mark.parametrize(
    ("label", "capability", "runs"),
    [
        ("cu130", (8, 9), True),
        ("cu126", (8, 9), True),
        # Pascal: what the general index has would not run.
        ("cu130", (6, 1), False),
        ("", (6, 1), False),
        ("", (8, 9), True),
        ("cu126", (6, 1), True),
        # Somebody asked for it.
        ("cu132", (8, 9), True),
        ("cpu", (8, 9), False),
    ],
)
def test_an_installed_build_stays_when_it_runs_on_the_gpu(label, capability, runs):
    choice = choose_torch_build(nvidia(580, capability))
    assert runs_here(label, choice, system="Linux") is runs


@pytest.mark.parametrize("label", ["cpu", "cu130", ""])
def test_any_build_runs_on_a_machine_without_a_gpu(label):
    assert runs_here(label, choose_torch_build(Machine(system="Linux")), system="Linux")


def test_an_installed_build_for_amd_stays():
    choice = choose_torch_build(Machine(system="Linux", amd_targets=("gfx1100",)))
    assert runs_here("rocm7.1", choice, system="Linux")
    assert not runs_here("cu130", choice, system="Linux")


def test_best_of_several_nvidia_gpus_decides():
    old = NvidiaGpu(name="GTX 1080", driver=580, capability=(6, 1))
    new = NvidiaGpu(name="RTX 5090", driver=580, capability=(12, 0))
    choice = choose_torch_build(Machine(system="Linux", nvidia=(old, new)))
    assert choice.indexes[0] == "cu130"
    assert "RTX 5090" in choice.reason


def test_amd_gets_rocm_on_linux_only():
    linux = Machine(system="Linux", amd_targets=("gfx1036", "gfx1100"))
    assert choose_torch_build(linux).kind == "rocm"
    assert all(index.startswith("rocm") for index in choose_torch_build(linux).indexes)
    windows = Machine(system="Windows", amd_targets=("gfx1100",))
    assert choose_torch_build(windows).kind == "cpu"


def test_amd_under_windows_is_told_where_it_could_be_used():
    choice = choose_torch_build(Machine(system="Windows", has_amd_adapter=True))
    assert choice.kind == "cpu"
    assert "under Linux only" in choice.reason
    nvidia_beside = Machine(
        system="Windows",
        has_amd_adapter=True,
        nvidia=(NvidiaGpu(name="GPU", driver=580, capability=(8, 9)),),
    )
    assert choose_torch_build(nvidia_beside).kind == "cuda"


def test_amd_graphics_without_kernels_gets_cpu():
    for target in ("gfx1036", "gfx906"):
        choice = choose_torch_build(Machine(system="Linux", amd_targets=(target,)))
        assert choice.kind == "cpu"
        assert target in choice.reason


@pytest.mark.parametrize("device_id", [0x56A0, 0xE20B, 0x7D55, 0x64A0])
def test_intel_arc_gets_xpu(device_id):
    machine = Machine(system="Windows", intel_device_ids=(device_id,))
    assert choose_torch_build(machine).kind == "xpu"


def test_old_intel_graphics_gets_cpu():
    assert choose_torch_build(Machine(system="Linux", intel_device_ids=(0x9BC5,))).kind == "cpu"


def test_nvidia_comes_before_the_others():
    machine = Machine(
        system="Linux",
        nvidia=(NvidiaGpu(name="GPU", driver=580, capability=(8, 9)),),
        amd_targets=("gfx1100",),
        intel_device_ids=(0x56A0,),
    )
    assert choose_torch_build(machine).kind == "cuda"


@pytest.mark.parametrize("system", ["Linux", "Windows", "Darwin"])
def test_no_gpu_gets_cpu(system):
    assert choose_torch_build(Machine(system=system)).indexes == ("cpu",)


@pytest.mark.parametrize(
    ("name", "kind"), [("cpu", "cpu"), ("xpu", "xpu"), ("cu126", "cuda"), ("rocm7.1", "rocm")]
)
def test_named_choice(name, kind):
    assert named_choice(name).kind == kind
    assert named_choice(name).indexes == (name,)


@pytest.mark.parametrize("name", ["", "cuda", "cu", "rocm", "cpux", "../cu126", "metal"])
def test_named_choice_refuses_other_names(name):
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}$"):
        named_choice(name)


@pytest.mark.parametrize(
    ("label", "system", "kind"),
    [
        ("cu130", "Linux", "cuda"),
        ("cpu", "Linux", "cpu"),
        ("rocm7.1", "Linux", "rocm"),
        ("xpu", "Windows", "xpu"),
        ("", "Linux", "cuda"),
        ("", "Windows", "cpu"),
    ],
)
def test_kind_of_installed_build(label, system, kind):
    assert kind_of_label(label, system=system) == kind

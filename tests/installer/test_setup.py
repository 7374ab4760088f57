"""Set-up from nothing to a working environment, with real pip and tiny packages, offline."""

import io
import shutil
import sys
from types import SimpleNamespace

import pytest

from installer import setup as setups
from installer import torch_stage
from installer.console import Console
from installer.environment import Environment
from installer.failures import NetworkFailedError, SetupFailedError
from installer.pip import Pip, PipOutput
from installer.project import Project, read_project
from installer.setup import set_up
from installer.stamp import RUNTIME, is_complete, read_stamp
from installer.torch_build import Machine, NvidiaGpu, named_choice
from installer.torch_index import IndexUnreachableError
from tests.installer.wheels import TORCH_CODE, make_package_server, make_project, make_wheel

pytestmark = pytest.mark.slow

NO_GPU = Machine(system="Linux")
RTX_4090 = Machine(
    system="Linux", nvidia=(NvidiaGpu(name="RTX 4090", driver=580, capability=(8, 9)),)
)


def unreachable(*_: object, **__: object) -> str:
    raise IndexUnreachableError("no route")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Environment:
    """An environment that was set up once; tests take a copy of nothing and add to it."""
    return Environment(folder=tmp_path_factory.mktemp("made") / "venv")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return read_project(make_project(tmp_path_factory.mktemp("project") / "it"))


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """pip sees only our packages, PyTorch's index does not answer, and pip is new enough."""
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(make_package_server(tmp_path / "packages")))
    monkeypatch.setattr(torch_stage, "read_index", unreachable)
    monkeypatch.setattr(torch_stage, "probe_machine", lambda: NO_GPU)
    monkeypatch.setattr(setups, "upgrade_pip", lambda _: None)


def test_set_up_makes_everything_and_then_nothing_twice(made, project, output, monkeypatch):
    stamp = set_up(made, project, Console(output), extra=RUNTIME)
    assert made.installed_version("torch") == "2.13.0"
    assert made.installed_version("small") == "1.0"
    assert made.installed_version("headroom") == "0.0.1"
    assert stamp.torch_version == "2.13.0"
    assert is_complete(made, project, extra=RUNTIME)
    text = output.getvalue()
    assert [f"[{number}/5]" in text for number in range(1, 6)] == [True] * 5
    assert "PyTorch's wheel index cannot be reached; installing the general build" in text
    assert "PyTorch 2.13.0 computes on the processor." in text
    assert not (made.folder / "setup-tmp").exists()

    # The second time no stage runs, not even the first.
    monkeypatch.setattr(setups, "plan_torch", unreachable)
    assert set_up(made, project, Console(output), extra=RUNTIME) == stamp


def test_extra_is_added_to_what_is_there(made, project, output):
    assert not is_complete(made, project, extra="dev")
    set_up(made, project, Console(output), extra="dev")
    assert made.installed_version("tool") == "1.0"
    assert is_complete(made, project, extra="dev")
    assert is_complete(made, project, extra=RUNTIME)
    assert "installing the general build" not in output.getvalue()


def test_interrupted_set_up_is_unfinished_and_continues(made, project, output, monkeypatch):
    def interrupt(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setups, "install_torch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            set_up(made, project, Console(output), extra=RUNTIME, is_forced=True)
    assert not is_complete(made, project, extra=RUNTIME)

    # Half of a package, as a killed pip leaves it.
    (info,) = made.site_packages.glob("small-*.dist-info")
    (info / "RECORD").unlink()
    (made.site_packages / "small.py").unlink()
    set_up(made, project, Console(output), extra=RUNTIME)
    assert (made.site_packages / "small.py").is_file()
    assert is_complete(made, project, extra=RUNTIME)


def test_working_build_is_kept_when_a_better_one_cannot_be_had(made, project, output, monkeypatch):
    make_wheel(made.folder.parent / "cpu", "torch", "2.13.0+cpu", TORCH_CODE.format(version="2"))
    Pip(made, Console(output)).install(
        "torch==2.13.0+cpu", "--find-links", str(made.folder.parent / "cpu"), doing="trying"
    )
    monkeypatch.setattr(torch_stage, "probe_machine", lambda: RTX_4090)
    stamp = set_up(made, project, Console(output), extra=RUNTIME, is_forced=True)
    assert made.installed_version("torch") == "2.13.0+cpu"
    assert "keeping the installed PyTorch 2.13.0+cpu" in output.getvalue()
    assert "It cannot use the GPU" not in output.getvalue()
    assert "RTX 4090" in stamp.torch_reason


def test_build_from_the_index_replaces_one_for_other_hardware(
    made, project, output, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch_stage, "probe_machine", lambda: RTX_4090)
    monkeypatch.setattr(torch_stage, "read_index", lambda name: name)
    monkeypatch.setattr(
        torch_stage, "newest_version", lambda page, **_: "2.12.0+cu128" if page == "cu128" else ""
    )
    monkeypatch.setattr(torch_stage, "index_url", lambda name: f"http://127.0.0.1:9/{name}")
    make_wheel(tmp_path / "packages", "torch", "2.12.0+cu128", TORCH_CODE.format(version="2.12"))
    set_up(made, project, Console(output), extra=RUNTIME, is_forced=True)
    assert made.installed_version("torch") == "2.12.0+cu128"
    assert "It cannot use the GPU that is there: restart the computer" in output.getvalue()
    # The build that is there suits the machine now, so the index is not asked again.
    monkeypatch.setattr(torch_stage, "read_index", unreachable)
    set_up(made, project, Console(output), extra=RUNTIME, is_forced=True)
    assert "cannot be reached" not in output.getvalue()
    # Somebody asks for it, whatever is there.
    output.truncate(0)
    asked = named_choice("cu128")
    set_up(made, project, Console(output), extra=RUNTIME, choice=asked, is_forced=True)
    assert "the GPU that is there" not in output.getvalue()
    assert "finds no GPU that it can use; if there is one, restart" in output.getvalue()


def test_build_the_user_names_replaces_the_one_chosen_before(made, project, output, monkeypatch):
    plan = torch_stage.plan_torch(made, specifier=">=2.9,<2.14", choice=named_choice("cu126"))
    assert not plan.is_present
    assert plan.choice.indexes == ("cu126",)


def test_torch_that_does_not_start_is_told(made, project, output, tmp_path):
    shutil.rmtree(tmp_path / "packages")
    packages = make_package_server(tmp_path / "packages")
    make_wheel(packages, "torch", "2.13.1", "raise OSError('libtorch.so: broken')")
    Pip(made, Console(output)).install("torch==2.13.1", doing="trying")
    with pytest.raises(SetupFailedError, match=r"does not start \(OSError: libtorch.so: broken\)"):
        set_up(made, project, Console(output), extra=RUNTIME, is_forced=True)
    assert not read_stamp(made.folder).fingerprints


@pytest.mark.parametrize(
    ("computes", "told"), [(True, "2.13 RTX 4090"), (False, "2.13 the processor")]
)
def test_a_gpu_without_kernels_in_the_build_is_none(computes, told, monkeypatch, capsys):
    def ones(_size, *, device):
        assert device == "cuda"
        if not computes:
            raise RuntimeError("CUDA error: no kernel image is available for execution")
        return SimpleNamespace(add_=lambda _: SimpleNamespace(item=lambda: 2.0))

    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda _: "RTX 4090")
    absent = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(__version__="2.13", cuda=cuda, xpu=absent, ones=ones)
    monkeypatch.setitem(sys.modules, "torch", torch)
    exec(setups._TRY_TORCH, {})
    assert capsys.readouterr().out.strip() == told


def test_package_that_cannot_be_had_is_named(made, output):
    with pytest.raises(SetupFailedError, match="nosuch"):
        Pip(made, Console(output)).install("nosuch", doing="trying")


def test_package_server_that_does_not_answer_is_a_network_failure(made, output, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    with pytest.raises(NetworkFailedError, match="could not be reached while trying"):
        Pip(made, Console(output)).install(
            *("nosuch", "--index-url", "http://127.0.0.1:9/", "--retries", "1"), doing="trying"
        )


def test_pip_output_becomes_progress():
    output = PipOutput()
    assert output.detail("Collecting torch==2.13.0+cu130") == "looking up torch"
    download = "  Downloading torch-2.13.0%2Bcu130-cp311-cp311-win_amd64.whl (1.9 GB)"
    assert output.detail(download) == "downloading torch 2.13.0%2Bcu130 (1.9 GB)"
    assert (
        output.detail("Progress 500 of 2000") == "downloading torch 2.13.0%2Bcu130 (1.9 GB), 25 %"
    )
    assert output.detail("Installing collected packages: a, b, c") == "unpacking 3 packages"
    assert output.detail("Installing collected packages: a") == "unpacking a"
    assert output.detail("Requirement already satisfied: x") == ""

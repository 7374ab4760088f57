"""What must be so before anything is written: permission, and room on the disk."""

import shutil
import tempfile
from pathlib import Path

from installer.environment import Environment
from installer.failures import SetupFailedError, os_failure
from installer.torch_build import TorchKind
from installer.versions import satisfies

_GB = 1_000_000_000
# Room for PyTorch by what it computes on: its installed files and, until they are unpacked, its
# downloads. Measured for the CPU build; the others from the sizes of their wheels, rounded up.
_TORCH_BYTES: dict[TorchKind, int] = {
    "cpu": 2 * _GB,
    "cuda": 10 * _GB,
    "rocm": 20 * _GB,
    "xpu": 8 * _GB,
}
_OTHER_PACKAGES_BYTES = 1_500_000_000
_UPDATE_BYTES = 200_000_000


def check_writable(env: Environment) -> None:
    """See whether files can be made where the environment is, or will be.

    Raises:
        SetupFailedError: They cannot.
    """
    folder = _existing(env.folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # The name that was tried is made up; the folder is what the user can do something about.
        error.filename = str(folder)
        raise os_failure(error, doing="setting up") from error


def needed_bytes(env: Environment, kind: TorchKind | None) -> int:
    """Room that the rest of the set-up takes.

    Args:
        env: The environment; what it has already takes no more room.
        kind: Of the PyTorch build to install; None when one is there already.
    """
    if kind is None and env.installed_version("pyside6_essentials"):
        return _UPDATE_BYTES
    return _OTHER_PACKAGES_BYTES + (0 if kind is None else _TORCH_BYTES[kind])


def check_space(env: Environment, kind: TorchKind | None) -> None:
    """See whether there is room.

    Raises:
        SetupFailedError: There is not.
    """
    need = needed_bytes(env, kind)
    folder = _existing(env.folder)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise SetupFailedError(
            f"Set-up needs {need / _GB:.1f} GB on the disk of {folder}, but only "
            f"{free / _GB:.1f} GB are free; free some space, or name a folder on another disk in "
            "HEADROOM_VENV, and run the same command again."
        )


def check_environment_python(env: Environment, *, specifier: str) -> None:
    """See whether an environment that is there already has a Python we support.

    Args:
        env: The environment.
        specifier: The supported versions, like ">=3.11,<3.14".

    Raises:
        SetupFailedError: It has not.
    """
    version = env.python_version
    if version and not satisfies(version, specifier):
        raise SetupFailedError(
            f"The environment {env.folder} has Python {version}, which Headroom does not support; "
            "delete that folder and run the same command again."
        )


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

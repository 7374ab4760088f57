"""The virtual environment: where it is, what is in it, and how it is made."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from installer.failures import SetupFailedError
from installer.lock import LOCK_NAME
from installer.project import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment, which may not exist yet.

    Attributes:
        folder: Its folder.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._scripts / ("python.exe" if os.name == "nt" else "python")

    @property
    def python_version(self) -> str:
        """Version of the interpreter like "3.11.7", from `pyvenv.cfg`; empty when unknown."""
        try:
            text = (self.folder / "pyvenv.cfg").read_text(encoding="utf-8")
        except OSError:
            return ""
        for line in text.splitlines():
            key, _, version = line.partition("=")
            if key.strip() in {"version", "version_info"}:
                return ".".join(version.strip().split(".")[:3])
        return ""

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        if os.name == "nt":
            return self.folder / "Lib" / "site-packages"
        minor = ".".join(self.python_version.split(".")[:2])
        return self.folder / "lib" / f"python{minor}" / "site-packages"

    def installed_version(self, name: str) -> str:
        """Version of a package; empty when it is not installed or only half.

        Args:
            name: As in the name of its metadata folder: lower case, with underscores.
        """
        for info in self.site_packages.glob("*.dist-info"):
            package, _, version = info.name.removesuffix(".dist-info").partition("-")
            # RECORD is written last, so without it the package was being installed when stopped.
            if package.lower().replace(".", "_") == name and (info / "RECORD").is_file():
                return version
        return ""

    @property
    def _scripts(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")


def environment() -> Environment:
    """`.venv` in the project, or the folder that `HEADROOM_VENV` names."""
    named = os.environ.get("HEADROOM_VENV")
    return Environment(folder=Path(named).expanduser().absolute() if named else ROOT / ".venv")


def is_healthy(env: Environment) -> bool:
    """Whether its Python starts and has pip."""
    if not env.python.exists():
        return False
    command = [str(env.python), "-I", "-c", "import pip"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def create(env: Environment) -> None:
    """Make the environment, or mend one whose making was interrupted.

    Raises:
        SetupFailedError: This Python cannot make one.
    """
    if not can_create():
        raise SetupFailedError(venv_missing_sentence())
    if os.path.lexists(env.python):
        # A Python that is there but does not start, or has no pip, is half made, or belongs to an
        # interpreter that was removed. `venv --clear` would also try to delete the held lock.
        for entry in env.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_NAME:
                entry.unlink()
    command = [sys.executable, "-m", "venv", str(env.folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0 or not is_healthy(env):
        lines = (result.stderr or result.stdout).strip().splitlines()
        reason = lines[-1] if lines else "its Python does not start"
        raise SetupFailedError(f"The environment {env.folder} could not be made: {reason}")


def can_create() -> bool:
    """Whether this Python came with what `venv` needs; Debian splits it off."""
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


def venv_package() -> str:
    """Name of the package in which Debian and Ubuntu have that part."""
    return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"


def venv_missing_sentence() -> str:
    """What to do about a Python without `venv`."""
    return (
        "This Python cannot make virtual environments; install its venv part (on Debian and "
        f"Ubuntu: sudo apt-get install {venv_package()}) and run the same command again."
    )


def sweep_half_installed(env: Environment) -> list[str]:
    """Remove the traces of an installation that was stopped, so that pip does it again.

    Without this pip takes a package for installed whose files are only partly there.

    Returns:
        Names of what was removed.
    """
    if not env.site_packages.is_dir():
        return []
    removed: list[str] = []
    for entry in env.site_packages.iterdir():
        is_half = entry.name.endswith(".dist-info") and not (entry / "RECORD").is_file()
        # pip renames what it replaces to "~name" and deletes it at the end.
        if is_half or entry.name.startswith("~"):
            shutil.rmtree(entry, ignore_errors=True)
            removed.append(entry.name)
    return removed

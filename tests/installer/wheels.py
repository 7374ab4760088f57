"""Makes tiny packages, so that set-up can be tried for real without a network."""

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, code: str = "") -> Path:
    """Write a wheel with one module of the same name into a folder."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


# A build backend without requirements: it makes an editable installation of the folder it is in.
_BACKEND = """
import os, zipfile

INFO = "headroom-0.0.1.dist-info"

def get_requires_for_build_editable(config_settings=None):
    return []

def _metadata():
    import tomllib
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    lines = ["Metadata-Version: 2.1", "Name: headroom", "Version: 0.0.1"]
    lines += [f"Requires-Dist: {line}" for line in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {line}; extra == '{extra}'" for line in requirements]
    return "\\n".join(lines) + "\\n"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "headroom-0.0.1-py3-none-any.whl"
    files = {
        "headroom.pth": os.getcwd() + "\\n",
        f"{INFO}/METADATA": _metadata(),
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{path},,\\n" for path in (*files, f"{INFO}/RECORD"))
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, text in {**files, f"{INFO}/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""

_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "headroom"
requires-python = ">=3.11,<3.14"
dependencies = ["torch>=2.9,<2.14", "small>=1"]

[project.optional-dependencies]
dev = ["tool>=1"]
"""

TORCH_CODE = """
__version__ = "{version}"

class _Absent:
    @staticmethod
    def is_available():
        return False

cuda = xpu = _Absent()
"""


def make_project(folder: Path) -> Path:
    """Write a project that is set up like this one, but has next to nothing in it."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_PYPROJECT, encoding="utf-8")
    (folder / "backend.py").write_text(_BACKEND, encoding="utf-8")
    return folder


def make_package_server(folder: Path, *, torch_version: str = "2.13.0") -> Path:
    """Fill a folder with the packages that `make_project` asks for."""
    make_wheel(folder, "torch", torch_version, TORCH_CODE.format(version=torch_version))
    make_wheel(folder, "small", "1.0")
    make_wheel(folder, "tool", "1.0")
    return folder

"""The walls of the house: file sizes, and what must not be loaded where."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
HEAVY = {"torch", "diffusers", "transformers", "safetensors", "accelerate"}
QT = {"PySide6", "shiboken6", "pyqtgraph"}

SOURCES = sorted(
    path
    for folder in ("app", "installer", "scripts", "bench")
    for path in ROOT.glob(f"{folder}/**/*.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_in(*folders: str) -> list[str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).glob("**/*.py"))]
    return [module_name(path) for path in paths]


def existing(*names: str) -> list[str]:
    """Those of the modules that have a file."""
    return [name for name in names if (ROOT / f"{name.replace('.', '/')}.py").is_file()]


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages in a fresh Python's memory after importing modules."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def imported_modules(path: Path) -> set[str]:
    """Names of all modules that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name` may bring a module of the package as well.
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return found


@functools.cache
def file_of(name: str) -> Path | None:
    base = ROOT / name.replace(".", "/")
    return next(
        (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None
    )


def is_light(name: str) -> bool:
    """Whether neither a module nor any of ours that it imports names a heavy package."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        path = file_of(current)
        if path is None or current in seen:
            continue
        seen.add(current)
        imported = imported_modules(path)
        if {module.partition(".")[0] for module in imported} & HEAVY:
            return False
        waiting += [module for module in imported if module.startswith("app.")]
    return True


def test_files_are_short_enough_to_read():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCES
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert not too_long


def test_window_does_not_load_torch():
    window = [*existing("app.main"), *modules_in("app/core", "app/monitor", "app/ui")]
    assert not loaded_by(window) & HEAVY


def test_command_line_and_light_engine_parts_load_neither_torch_nor_qt():
    light = [name for name in modules_in("app/core", "app/engine", "app/monitor") if is_light(name)]
    starts = existing("app.__main__", "app.cli", "app.conductor")
    assert "app.engine.protocol" in light
    assert not loaded_by([*starts, *light]) & (HEAVY | QT)


def test_installer_needs_only_the_standard_library():
    # On other systems too: what is imported for Windows alone is in this list as well.
    allowed = sys.stdlib_module_names | {"installer"}
    foreign = {
        path.name: packages - allowed
        for path in (ROOT / "installer").glob("**/*.py")
        if (packages := {name.partition(".")[0] for name in imported_modules(path)}) - allowed
    }
    assert not foreign


def test_installer_start_is_understood_by_older_pythons():
    for name in ("__init__.py", "__main__.py"):
        source = (ROOT / "installer" / name).read_text(encoding="utf-8")
        ast.parse(source, feature_version=(3, 8))

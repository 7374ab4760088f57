"""The system libraries that Qt needs on Linux: which are missing, and how to get them."""

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from installer.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemLibrary:
    """Something Qt loads from the system.

    Attributes:
        soname: As the loader looks for it; for RPM distributions it names the package too.
        apt: Package of Debian and Ubuntu.
        pacman: Package of Arch.
    """

    soname: str
    apt: str
    pacman: str


def _library(soname: str, apt: str, pacman: str) -> SystemLibrary:
    return SystemLibrary(soname=soname, apt=apt, pacman=pacman)


# What the Qt libraries and its xcb and offscreen plugins list as NEEDED (readelf -d), less what Qt
# brings along and what every system has.
LIBRARIES = (
    _library("libEGL.so.1", "libegl1", "libglvnd"),
    _library("libGL.so.1", "libgl1", "libglvnd"),
    _library("libX11.so.6", "libx11-6", "libx11"),
    _library("libX11-xcb.so.1", "libx11-xcb1", "libx11"),
    _library("libxkbcommon.so.0", "libxkbcommon0", "libxkbcommon"),
    _library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "libxkbcommon-x11"),
    _library("libxcb.so.1", "libxcb1", "libxcb"),
    _library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor"),
    _library("libxcb-icccm.so.4", "libxcb-icccm4", "xcb-util-wm"),
    _library("libxcb-image.so.0", "libxcb-image0", "xcb-util-image"),
    _library("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb-util-keysyms"),
    _library("libxcb-randr.so.0", "libxcb-randr0", "libxcb"),
    _library("libxcb-render.so.0", "libxcb-render0", "libxcb"),
    _library("libxcb-render-util.so.0", "libxcb-render-util0", "xcb-util-renderutil"),
    _library("libxcb-shape.so.0", "libxcb-shape0", "libxcb"),
    _library("libxcb-shm.so.0", "libxcb-shm0", "libxcb"),
    _library("libxcb-sync.so.1", "libxcb-sync1", "libxcb"),
    _library("libxcb-util.so.1", "libxcb-util1", "xcb-util"),
    _library("libxcb-xfixes.so.0", "libxcb-xfixes0", "libxcb"),
    _library("libxcb-xkb.so.1", "libxcb-xkb1", "libxcb"),
    _library("libdbus-1.so.3", "libdbus-1-3", "dbus"),
    _library("libfontconfig.so.1", "libfontconfig1", "fontconfig"),
    _library("libfreetype.so.6", "libfreetype6", "freetype2"),
    _library("libglib-2.0.so.0", "libglib2.0-0", "glib2"),
    _library("libgssapi_krb5.so.2", "libgssapi-krb5-2", "krb5"),
    _library("libbrotlidec.so.1", "libbrotli1", "brotli"),
    _library("libzstd.so.1", "libzstd1", "zstd"),
)

# Qt ships no fonts; without any, every text is drawn as empty boxes.
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/run/current-system/sw/share/X11/fonts",
)
_FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".pfb")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageManager:
    """How a distribution installs packages.

    Attributes:
        program: Its command.
        arguments: Between the command and the packages.
        fonts: Package with a plain font.
        refresh: Arguments that fetch the package lists; empty when not needed.
    """

    program: str
    arguments: tuple[str, ...]
    fonts: str
    refresh: tuple[str, ...] = ()

    def package(self, library: SystemLibrary) -> str:
        """The package that has a library."""
        if self.program == "apt-get":
            return library.apt
        if self.program == "pacman":
            return library.pacman
        # RPM packages can be asked for by what they contain, which has one name everywhere.
        return f"{library.soname}()(64bit)"


MANAGERS = (
    PackageManager(
        program="apt-get",
        arguments=("install", "-y", "--no-install-recommends"),
        fonts="fonts-dejavu-core",
        refresh=("update",),
    ),
    PackageManager(program="dnf", arguments=("install", "-y"), fonts="dejavu-sans-fonts"),
    PackageManager(
        program="zypper", arguments=("--non-interactive", "install"), fonts="dejavu-fonts"
    ),
    PackageManager(
        program="pacman", arguments=("-S", "--needed", "--noconfirm"), fonts="ttf-dejavu"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What Qt will not find.

    Attributes:
        libraries: That the loader does not find.
        has_fonts: Whether any font is installed.
    """

    libraries: tuple[SystemLibrary, ...]
    has_fonts: bool

    def __bool__(self) -> bool:
        return bool(self.libraries) or not self.has_fonts

    def names(self) -> str:
        """For people, separated by commas."""
        fonts = () if self.has_fonts else ("a font",)
        return ", ".join((*(library.soname for library in self.libraries), *fonts))


def find_missing() -> Missing:
    """Ask the loader for each library, as Qt will."""
    return Missing(
        libraries=tuple(library for library in LIBRARIES if not _loads(library.soname)),
        has_fonts=any(_has_font(Path(folder).expanduser()) for folder in _FONT_FOLDERS),
    )


def package_manager() -> PackageManager | None:
    """The one of this system; None when it is none we know."""
    return next((one for one in MANAGERS if shutil.which(one.program)), None)


def packages_for(manager: PackageManager, missing: Missing) -> tuple[str, ...]:
    """The packages that have what is missing, each once."""
    packages = [manager.package(library) for library in missing.libraries]
    if not missing.has_fonts:
        packages.append(manager.fonts)
    return tuple(dict.fromkeys(packages))


def advice(manager: PackageManager | None, missing: Missing) -> str:
    """One sentence with the one command to type."""
    what = f"The window needs these from the system: {missing.names()}"
    if manager is None:
        return f"{what}; install them with your package manager and start again."
    words = (manager.program, *manager.arguments, *packages_for(manager, missing))
    command = " ".join(_quoted(word) for word in words)
    return f"{what}; type this, then start again:\n  sudo {command}"


def is_root() -> bool:
    """Whether packages can be installed without asking."""
    if sys.platform == "win32":
        return False
    return os.geteuid() == 0


def install_packages(
    manager: PackageManager, packages: tuple[str, ...], *, console: Console, log: Path
) -> None:
    """Install packages of the system; needs its administrator's rights.

    Whether it worked shows when what they contain is looked for again.

    Args:
        manager: Of this system.
        packages: Their names there.
        console: Shows what is being done.
        log: Gets what the package manager prints.
    """
    commands = [(manager.program, *manager.arguments, *packages)]
    if manager.refresh:
        commands.insert(0, (manager.program, *manager.refresh))
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with log.open("a", encoding="utf-8") as output:
        for command in commands:
            console.detail(" ".join(command))
            # Stale lists of one source may fail to refresh while the rest suffices.
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                check=False,
            )


def _loads(soname: str) -> bool:
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def _has_font(folder: Path) -> bool:
    return any(
        name.lower().endswith(_FONT_SUFFIXES) for _, _, names in os.walk(folder) for name in names
    )


def _quoted(word: str) -> str:
    return f"'{word}'" if "(" in word else word

import pytest

from installer import system_libraries
from installer.system_libraries import LIBRARIES, MANAGERS, Missing, advice, packages_for

BY_PROGRAM = {manager.program: manager for manager in MANAGERS}
TWO = Missing(libraries=tuple(one for one in LIBRARIES if "libGL." in one.soname), has_fonts=False)


def test_nothing_missing_is_false():
    assert not Missing(libraries=(), has_fonts=True)
    assert Missing(libraries=(), has_fonts=False)
    assert Missing(libraries=LIBRARIES[:1], has_fonts=True)


@pytest.mark.parametrize(
    ("program", "packages"),
    [
        ("apt-get", ("libgl1", "fonts-dejavu-core")),
        ("dnf", ("libGL.so.1()(64bit)", "dejavu-sans-fonts")),
        ("zypper", ("libGL.so.1()(64bit)", "dejavu-fonts")),
        ("pacman", ("libglvnd", "ttf-dejavu")),
    ],
)
def test_packages_of_each_manager(program, packages):
    assert packages_for(BY_PROGRAM[program], TWO) == packages


def test_package_with_several_libraries_is_named_once():
    everything = Missing(libraries=LIBRARIES, has_fonts=True)
    packages = packages_for(BY_PROGRAM["pacman"], everything)
    assert len(packages) == len(set(packages)) < len(LIBRARIES)


def test_advice_is_one_command_to_type():
    lines = advice(BY_PROGRAM["apt-get"], TWO).splitlines()
    assert lines[0].startswith("The window needs these from the system: libGL.so.1, a font;")
    assert lines[1:] == [
        "  sudo apt-get install -y --no-install-recommends libgl1 fonts-dejavu-core"
    ]


def test_advice_quotes_what_the_shell_would_take_apart():
    assert "'libGL.so.1()(64bit)'" in advice(BY_PROGRAM["dnf"], TWO)


def test_advice_without_a_known_manager_names_the_libraries():
    assert "libGL.so.1" in advice(None, TWO)


def test_missing_library_is_found_out(monkeypatch):
    odd = system_libraries.SystemLibrary(soname="libnosuch.so.9", apt="x", pacman="x")
    monkeypatch.setattr(system_libraries, "LIBRARIES", (odd,))
    assert system_libraries.find_missing().libraries == (odd,)


def test_fonts_are_found_in_folders_below(tmp_path, monkeypatch):
    monkeypatch.setattr(system_libraries, "_FONT_FOLDERS", (str(tmp_path),))
    assert not system_libraries.find_missing().has_fonts
    (tmp_path / "truetype").mkdir()
    (tmp_path / "truetype" / "Sans.TTF").touch()
    assert system_libraries.find_missing().has_fonts

from dataclasses import replace

import pytest

from installer.environment import Environment
from installer.project import read_project
from installer.stamp import (
    RUNTIME,
    STAMP_NAME,
    Stamp,
    is_complete,
    read_stamp,
    remove_stamp,
    write_stamp,
)
from tests.installer.wheels import make_project

STAMP = Stamp(
    fingerprints={RUNTIME: "abc", "dev": "def"},
    torch_version="2.13.0+cpu",
    torch_reason="no GPU",
    has_system_libraries=True,
)


def test_stamp_is_read_as_written_and_leaves_nothing_else(tmp_path):
    write_stamp(tmp_path, STAMP)
    assert read_stamp(tmp_path) == STAMP
    assert [path.name for path in tmp_path.iterdir()] == [STAMP_NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"fingerprints": []}', '{"a": 1}'])
def test_spoilt_stamp_counts_as_none(tmp_path, text):
    (tmp_path / STAMP_NAME).write_text(text)
    assert read_stamp(tmp_path) == Stamp()


def test_missing_stamp_is_empty_and_can_be_removed(tmp_path):
    assert read_stamp(tmp_path) == Stamp()
    remove_stamp(tmp_path)


@pytest.fixture
def project(tmp_path):
    return read_project(make_project(tmp_path / "project"))


@pytest.fixture
def env(tmp_path):
    env = Environment(folder=tmp_path / "venv")
    env.python.parent.mkdir(parents=True)
    env.python.touch()
    (env.folder / "pyvenv.cfg").write_text("version = 3.11.7\n")
    return env


def stamped(project, *extras):
    prints = {extra: project.fingerprint(extra=extra, python_version="3.11.7") for extra in extras}
    return Stamp(fingerprints=prints)


def test_complete_when_the_fingerprint_matches(env, project):
    assert not is_complete(env, project, extra=RUNTIME)
    write_stamp(env.folder, stamped(project, RUNTIME))
    assert is_complete(env, project, extra=RUNTIME)
    assert not is_complete(env, project, extra="dev")


def test_incomplete_without_python(env, project):
    write_stamp(env.folder, stamped(project, RUNTIME))
    env.python.unlink()
    assert not is_complete(env, project, extra=RUNTIME)


@pytest.mark.parametrize(
    "change",
    [
        {"dependencies": ("torch>=3",)},
        {"build": ("other",)},
        {"extras": {"dev": ("more",)}},
    ],
)
def test_incomplete_after_a_change_of_the_project(env, project, change):
    write_stamp(env.folder, stamped(project, RUNTIME, "dev"))
    assert not is_complete(env, replace(project, **change), extra="dev")


def test_incomplete_after_the_project_was_moved(env, project, tmp_path):
    write_stamp(env.folder, stamped(project, RUNTIME))
    assert not is_complete(env, replace(project, root=tmp_path / "moved"), extra=RUNTIME)


def test_change_of_an_extra_leaves_the_runtime_complete(env, project):
    write_stamp(env.folder, stamped(project, RUNTIME))
    assert is_complete(env, replace(project, extras={"dev": ("more",)}), extra=RUNTIME)

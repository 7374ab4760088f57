import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.core import atomic
from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX, sweep_partials, write_atomic, write_new

posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")


def fail_with(number: int):
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def numbered(folder: Path, count: int = 100) -> list[Path]:
    return [folder / f"{number}.txt" for number in range(count)]


def test_write_atomic_makes_folders_and_replaces(tmp_path: Path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    path = tmp_path / "file.txt"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", fail_with(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "replace", fail_with(errno.EACCES))
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "file.txt", b"new")
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_file_gets_the_permissions_of_any_new_file(tmp_path: Path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
        write_new([tmp_path / "b"], b"")
    finally:
        os.umask(old)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o640]


def test_write_new_takes_the_first_free_name(tmp_path: Path):
    paths = numbered(tmp_path)
    assert [write_new(paths, bytes([number])) for number in range(3)] == paths[:3]
    assert [path.read_bytes() for path in paths[:3]] == [b"\0", b"\1", b"\2"]
    assert sorted(tmp_path.iterdir()) == paths[:3]


def test_write_new_never_replaces_a_folder(tmp_path: Path):
    paths = numbered(tmp_path)
    paths[0].mkdir()
    assert write_new(paths, b"x") == paths[1]


@posix_only
def test_write_new_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    paths = numbered(tmp_path)
    assert [write_new(paths, b"x") for _ in range(2)] == paths[:2]
    assert sorted(tmp_path.iterdir()) == paths[:2]
    assert paths[1].read_bytes() == b"x"


@posix_only
def test_a_name_that_was_claimed_in_vain_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "link", fail_with(errno.EPERM))
    monkeypatch.setattr(os, "replace", fail_with(errno.ENOMEM))
    with pytest.raises(OSError, match="memory"):
        write_new(numbered(tmp_path), b"x")
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_write_new_tells_other_errors_of_linking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "link", fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        write_new(numbered(tmp_path), b"x")
    assert list(tmp_path.iterdir()) == []


def test_write_new_on_windows_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    renamed: list[tuple[Path, Path]] = []

    def rename(source: Path, target: Path) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        renamed.append((source, target))
        Path(source).replace(target)

    paths = numbered(tmp_path)
    paths[0].write_bytes(b"theirs")
    monkeypatch.setattr(atomic, "_RENAME_REFUSES", True)
    monkeypatch.setattr(os, "rename", rename)
    assert write_new(paths, b"ours") == paths[1]
    assert [target for _, target in renamed] == [paths[1]]
    assert paths[0].read_bytes() == b"theirs"


def test_threads_that_want_the_same_name_all_get_their_own(tmp_path: Path):
    paths = numbered(tmp_path)
    barrier = threading.Barrier(8)
    written: list[Path] = []

    def write(number: int) -> None:
        barrier.wait()
        written.append(write_new(paths, bytes([number]) * 1000))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == paths[:8]
    assert {path.read_bytes()[0] for path in written} == set(range(8))
    assert all(len(path.read_bytes()) == 1000 for path in written)


def test_sweep_removes_what_killed_writers_left(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    left = tmp_path / f"{PARTIAL_PREFIX}{ended.pid}-abc{PARTIAL_SUFFIX}"
    nameless = tmp_path / f"{PARTIAL_PREFIX}x{PARTIAL_SUFFIX}"
    numbered = tmp_path / f"{PARTIAL_PREFIX}{10**30}-abc{PARTIAL_SUFFIX}"
    alive = tmp_path / f"{PARTIAL_PREFIX}{os.getpid()}-abc{PARTIAL_SUFFIX}"
    other = tmp_path / "picture.png"
    for path in (left, nameless, numbered, alive, other):
        path.write_bytes(b"x")
    sweep_partials(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_sweep_of_a_missing_folder_does_nothing(tmp_path: Path):
    sweep_partials(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_sweep_of_a_disk_that_does_not_answer_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> list[Path]:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(Path, "glob", fail)
    sweep_partials(tmp_path)


def test_sweep_passes_over_what_it_cannot_remove(tmp_path: Path):
    folder = tmp_path / f"{PARTIAL_PREFIX}x{PARTIAL_SUFFIX}"
    folder.mkdir()
    sweep_partials(tmp_path)
    assert folder.is_dir()

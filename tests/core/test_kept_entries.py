"""Entries by key come back; what is broken, of another version or unwritable costs nothing."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.kept_entries import KeptEntries


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found out."""

    numbers: tuple[int, ...] = ()


def entries(path: Path | None, *, version: int = 1) -> KeptEntries[Found]:
    return KeptEntries(path, Found, schema_version=version, max_entries=2, name="numbers")


def test_entries_come_back_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "data" / "numbers.json"
    kept = entries(path)
    for key, number in [("a", 1), ("b", 2), ("a", 3), ("c", 4)]:
        kept.put(key, Found(numbers=(number,)))
    again = entries(path)
    assert [again.get(key) for key in "abc"] == [Found(numbers=(3,)), None, Found(numbers=(4,))]
    assert entries(path, version=2).get("a") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"schema_version": 1}',
        b'{"schema_version": 1, "entries": {"a": {"numbers": "x"}}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_file_has_no_entries_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "numbers.json"
    path.write_bytes(content)
    kept = entries(path)
    assert kept.get("a") is None
    kept.put("a", Found(numbers=(1,)))
    assert entries(path).get("a") == Found(numbers=(1,))


def test_without_a_file_that_can_be_written_entries_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    for path in (None, tmp_path / "taken" / "numbers.json"):
        kept = entries(path)
        kept.put("a", Found(numbers=(1,)))
        assert kept.get("a") == Found(numbers=(1,))

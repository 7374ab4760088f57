"""Stdout that cannot be written: a sentence on stderr, exit 1, no traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.stdout import StdoutError, write_out
from tests.fakes.streams import FullDisk, NobodyReads

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")


def test_text_is_written_at_once():
    stream = io.StringIO()
    write_out("a\n", stream)
    assert stream.getvalue() == "a\n"


def test_full_disk_is_a_sentence():
    with pytest.raises(StdoutError, match=r"cannot be written \(No space left on device\)"):
        write_out("a\n", FullDisk())


def test_reader_that_has_gone_is_left_to_the_caller():
    with pytest.raises(BrokenPipeError):
        write_out("a\n", NobodyReads())


def test_closed_handle_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(StdoutError, match="is closed"):
        write_out("a\n")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("models", "--json"),
        ("--help",),
        # Told in JSON on stdout, were it not full.
        ("generate", "--prompt", "", "--json"),
        ("generate", "--prompt", "x", "--model", "nowhere/at/all", "--json"),
    ],
)
def test_command_on_a_full_device_ends_with_a_sentence_and_1(arguments: tuple[str, ...]):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "The output cannot be written (No space left on device)" in done.stderr
    assert done.stderr.count("cannot be written") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr

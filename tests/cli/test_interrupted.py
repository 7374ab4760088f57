"""Ctrl+C before a verb can take care of it: while modules are loaded."""

import json
import sys

import pytest

import app.__main__
from app import cli


@pytest.fixture(autouse=True)
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the verbs are loaded from is interrupted."""

    def interrupt(_arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupt)
    monkeypatch.setattr("faulthandler.enable", lambda: None)


def test_it_is_a_sentence_and_exit_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["headroom", "plan"])
    assert app.__main__.main() == 130
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "headroom: Cancelled.\n")


def test_programs_get_their_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["headroom", "plan", "--json"])
    assert app.__main__.main() == 130
    told = capsys.readouterr()
    line = json.loads(told.out)
    assert (line["event"], line["code"], told.err) == ("error", "cancelled", "")


@pytest.mark.parametrize("arguments", [["plan"], ["plan", "--json"]])
def test_closed_streams_are_passed_over(monkeypatch: pytest.MonkeyPatch, arguments: list[str]):
    monkeypatch.setattr(sys, "argv", ["headroom", *arguments])
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert app.__main__.main() == 130

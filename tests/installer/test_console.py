import io

import pytest

from installer.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stage_without_a_terminal_is_one_line_at_each_end():
    stream = io.StringIO()
    console = Console(stream)
    with console.stage("[1/2] PyTorch"):
        console.detail("downloading")
    assert stream.getvalue() == "[1/2] PyTorch ...\n[1/2] PyTorch: done (0 s)\n"


def test_stage_on_a_terminal_moves_and_cleans_up():
    stream = Terminal()
    console = Console(stream)
    with console.stage("PyTorch"):
        console.detail("downloading torch, 50 %")
        console.say("a note")
    text = stream.getvalue()
    assert "\rPyTorch ... 0 s  downloading torch, 50 %" in text
    assert "\ra note\n" in text
    assert text.endswith("PyTorch: done (0 s)\n")


def test_stage_that_fails_says_so():
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Console(stream).stage("PyTorch"):
        raise ValueError("broken")
    assert stream.getvalue().endswith("PyTorch: stopped\n")

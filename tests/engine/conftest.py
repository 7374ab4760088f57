"""What many tests of the engine begin with."""

from pathlib import Path

import pytest

from app.engine.lines import Lines
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import make_tiny_model


@pytest.fixture
def quick_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are not known are not measured: that takes longer than all tests of a run."""
    use_quick_forecasts(monkeypatch.setattr)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny klein that nobody changes."""
    return make_tiny_model("klein", tmp_path_factory.mktemp("klein"))


@pytest.fixture
def asked_lines(monkeypatch: pytest.MonkeyPatch) -> list[Lines]:
    """What coefficients are asked in a test, once for each time: most of what a plan takes."""
    asked: list[Lines] = []
    answer = Lines.at

    def at(lines: Lines, counts: dict[str, float]) -> int:
        asked.append(lines)
        return answer(lines, counts)

    monkeypatch.setattr(Lines, "at", at)
    return asked

"""The table of the docs is what the planner says, and beats what guides say."""

import pytest

from scripts.plan_table import GUIDES_PX, TABLE, largest_px, table


def test_the_committed_table_is_what_the_script_makes() -> None:
    assert TABLE.read_text(encoding="utf-8") == table(), "run: python -m scripts.plan_table"


@pytest.mark.parametrize("name", ["klein-4b", "klein-9b"])
@pytest.mark.parametrize(("card_gb", "guide_px"), GUIDES_PX.items())
def test_the_limits_of_guides_are_beaten(name: str, card_gb: int, guide_px: int) -> None:
    assert largest_px(card_gb, name) > guide_px

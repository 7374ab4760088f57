"""docs/verdicts.md says what the result file says."""

from bench.verdicts_parts.page import PAGE, page


def test_the_page_is_that_of_the_result():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python bench/verdicts.py --page"

"""The process of one case: `python -m bench.residency_parts.child CASE RESULT`."""

import json
import sys
import traceback
from pathlib import Path

from bench.residency_parts.cases import Case
from bench.residency_parts.measured import measure
from bench.residency_parts.rows import FAILED, Row, new_row


def main(case_json: str, result: str) -> None:
    """Run the case and write its row.

    Args:
        case_json: `Case.to_json`.
        result: Path of the file to write.
    """
    row = run(Case.from_json(case_json))
    Path(result).write_text(json.dumps(row), encoding="utf-8")


def run(case: Case) -> Row:
    """The row of a case, also of one that fails in a way that nobody thought of."""
    try:
        return measure(case)
    except Exception as error:  # noqa: BLE001 - a case that fails is a row that says so
        traceback.print_exc()
        return new_row(case, FAILED, note=f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""The planner's verdicts for real-size models, carried out; writes bench/results/verdicts.json.

    python bench/verdicts.py                                  all of it: hours of computing
    python bench/verdicts.py --minutes 30 --processes 2       as much as there is time for
    python bench/verdicts.py --models klein-4b --cards 8 12 --precisions bf16 fp8 --no-write
    python bench/verdicts.py --page                           docs/verdicts.md from the result

Cards of 6 to 32 GB are described, not there. The planner plans for them, and each plan is carried
out by the engine's own phases and residency on tensors without data, under an account that follows
torch's allocator; see docs/verdicts.md for what is computed and what is assumed.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.policy import Precision  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from bench.verdicts_parts.cases import (  # noqa: E402
    CARDS_GB,
    MODELS,
    PRECISIONS,
    distinct,
    grid,
)
from bench.verdicts_parts.checks import Row  # noqa: E402
from bench.verdicts_parts.page import write_page  # noqa: E402
from bench.verdicts_parts.runner import carry_out_all, in_groups  # noqa: E402
from bench.verdicts_parts.summary import HEADER, card_table, figures  # noqa: E402

NOTE = (
    "Plans carried out on tensors without data; memory of described cards is an account that "
    "follows torch's allocator. Nothing was measured on a GPU."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, carry out, print, write."""
    arguments = _parser().parse_args(argv)
    if arguments.page:
        write_page()
        return
    began_s = time.monotonic()
    precisions = [Precision(value) for value in arguments.precisions]
    cases = list(grid(arguments.models, arguments.cards, precisions))
    planned = distinct(cases)
    verdicts = Counter(case.verdict.value for case in (one.plan for one in planned))
    print(f"{len(cases)} cases, {len(planned)} plans that differ: {dict(verdicts)}", flush=True)
    seconds = None if arguments.minutes is None else arguments.minutes * 60
    rows: list[Row] = []
    counts: Counter[str] = Counter()
    for found, counted in carry_out_all(
        in_groups(planned), processes=arguments.processes, seconds=seconds
    ):
        rows += found
        counts.update(counted)
        where = f"{found[0].model} {found[0].precision}" if found else "-"
        outs = Counter(name for row in found if row.kind != "refused" for name in row.ran_out)
        print(f"{time.monotonic() - began_s:6.0f} s  {where}: {counted}, {dict(outs)}", flush=True)
    print(table(HEADER, card_table(rows)))
    if not arguments.no_write:
        result = figures(rows, cases=len(cases), plans=len(planned), counts=dict(counts))
        result["seconds"] = round(time.monotonic() - began_s)
        print(write_result("verdicts", result, note=NOTE))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cards", nargs="+", type=float, default=list(CARDS_GB), metavar="GB")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=[precision.value for precision in PRECISIONS],
        default=[precision.value for precision in PRECISIONS],
    )
    parser.add_argument("--minutes", type=float, help="then what is left is left out")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="write docs/verdicts.md")
    parser.add_argument("--no-write", action="store_true", help="only print")
    return parser


if __name__ == "__main__":
    main()

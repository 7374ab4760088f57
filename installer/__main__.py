"""Start of `python -m installer`.

This file alone must be understood by older Pythons too, so that they can say which one is needed;
everything else is imported after that.
"""

import sys

OLDEST = (3, 11)
FIRST_TOO_NEW = (3, 14)


def version_problem(version: "tuple[int, int]") -> str:
    """One sentence about a Python that cannot run Headroom; empty when it can."""
    if OLDEST <= version < FIRST_TOO_NEW:
        return ""
    return (
        f"Headroom needs Python {OLDEST[0]}.{OLDEST[1]} to "
        f"{FIRST_TOO_NEW[0]}.{FIRST_TOO_NEW[1] - 1}, but this is Python {version[0]}.{version[1]}; "
        "install one of those and start this command with it."
    )


def main() -> int:
    """Check the Python, then hand over to the commands; the result is the exit code."""
    problem = version_problem((sys.version_info[0], sys.version_info[1]))
    if problem:
        print(problem, file=sys.stderr)
        return 1
    # Not at the top: an older Python does not understand these files.
    from installer.commands import main as run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

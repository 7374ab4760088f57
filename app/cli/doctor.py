"""`doctor`: what this machine has, what is missing, and how to mend it."""

from dataclasses import asdict

from app.cli.check import Check, CheckState
from app.cli.file_checks import check_disks, check_folders, check_models, check_settings
from app.cli.machine_checks import check_app, check_gpus, check_memory, check_python
from app.cli.package_checks import check_packages, check_qt, check_qt_libraries, check_torch
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.paths import app_paths
from app.core.settings import SettingsStore

EXIT_HEALTHY = 0
EXIT_PROBLEM = 1
_MARKS = {CheckState.OK: "ok", CheckState.NOTE: "note", CheckState.PROBLEM: "PROBLEM"}


def run_doctor(*, as_json: bool) -> int:
    """Look at everything and tell; returns the exit code."""
    checks = examine()
    healthy = all(check.state is not CheckState.PROBLEM for check in checks)
    if as_json:
        told = [{**asdict(check), "state": check.state.value} for check in checks]
        write_json({"event": "doctor", "healthy": healthy, "checks": told})
    else:
        write_out("".join(_as_text(check) for check in checks))
        write_out(_verdict(checks) + "\n")
    return EXIT_HEALTHY if healthy else EXIT_PROBLEM


def examine() -> tuple[Check, ...]:
    """Every check, the most basic first."""
    paths = app_paths()
    store = SettingsStore(paths.settings_file)
    settings = store.load()
    return (
        *check_python(),
        *check_app(),
        *check_packages(),
        *check_torch(),
        *check_gpus(),
        *check_memory(),
        *check_settings(store),
        *check_folders(paths, settings),
        *check_disks(paths, settings),
        *check_models(settings),
        *check_qt(),
        *check_qt_libraries(),
    )


def _as_text(check: Check) -> str:
    text = f"{_MARKS[check.state]:8}{check.name:20}{check.found}\n"
    return text + (f"{'':8}{'':20}-> {check.remedy}\n" if check.remedy else "")


def _verdict(checks: tuple[Check, ...]) -> str:
    count = sum(check.state is CheckState.PROBLEM for check in checks)
    if count == 0:
        return "Headroom can run here."
    return "1 thing must be mended." if count == 1 else f"{count} things must be mended."

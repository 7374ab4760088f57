"""Screenshots for the README and the guide, taken from the real window: writes docs/images/*.png.

    python scripts/screenshots.py [--model FOLDER] [--out FOLDER]

A real engine makes real pictures with the demo model; nothing is staged but the prompts. Without a
screen, run it under `xvfb-run -a -s "-screen 0 2560x1440x24"`, or as it is: Qt then draws into
memory.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QElapsedTimer, QEventLoop, QSize, QTimer  # noqa: E402
from PySide6.QtGui import QAction  # noqa: E402
from PySide6.QtWidgets import QApplication, QDialog, QWidget  # noqa: E402

from app.core.events import StepDone  # noqa: E402
from app.core.jobs import Phase  # noqa: E402
from app.core.log import set_up_logging  # noqa: E402
from app.core.paths import app_paths, resource  # noqa: E402
from app.core.settings import Settings, SettingsStore  # noqa: E402
from app.main import Application  # noqa: E402

PROMPTS = (
    "a big yellow ring at the center on a purple background",
    "a small green triangle at the left on a white background",
    "a big cyan cross at the bottom on a black background",
    "a big red circle at the top on a blue background",
)
SMALL, LARGE = QSize(1280, 800), QSize(2560, 1440)
TIMEOUT_S = 300
SETTLE_MS = 700
GRAPH_MS = 6000
"""The memory graph needs some seconds before it shows anything."""
SHOWN_STEP = 20
"""Of a picture in the making: by then the graph shows the run over its forecast."""


class Photographer:
    """Drives one application and takes its pictures."""

    def __init__(self, application: Application, out: Path) -> None:
        self._application = application
        self._models = application.models
        self._window = application.window
        self._out = out

    def run(self, model_folder: Path) -> None:
        """Take all pictures."""
        models = self._models
        self._window.resize(SMALL)
        self._application.start()
        self._wait(lambda: self._window.findChild(QWidget, "memory_panel") is not None)
        self._wait(lambda: models.catalog.ready)
        models.form.set_model(self._name_of(model_folder))
        self._pause(GRAPH_MS)
        for seed, prompt in enumerate(PROMPTS, start=7):
            self._generate(prompt, seed)
            self._wait(lambda: models.engine.current_job is None and not models.engine.queued_jobs)
        self._pause(SETTLE_MS)
        for theme in ("dark", "light"):
            models.settings.update(theme=theme)
            for size, name in ((SMALL, "window"), (LARGE, "window-large")):
                self._window.resize(size)
                self._pause(SETTLE_MS)
                self._save(self._window, f"{name}-{theme}")
        self._window.resize(SMALL)
        models.settings.update(theme="dark")
        self._while_running()
        for action, name in (("settings", "settings"), ("models", "models"), ("about", "about")):
            self._dialog(action, name)

    def _while_running(self) -> None:
        """A picture in the making, with others that wait."""
        engine = self._models.engine
        taken: list[int] = []

        def on_step(event: StepDone) -> None:
            progress = engine.progress()
            begun = progress is not None and progress.phase is Phase.DENOISE
            if begun and event.step >= SHOWN_STEP and not taken:
                taken.append(event.step)
                self._save(self._window, "running-dark")

        self._models.form.set_steps(40)
        for seed, prompt in enumerate(PROMPTS, start=21):
            self._generate(prompt, seed)
        engine.step_done.connect(on_step)
        self._wait(lambda: bool(taken))
        engine.step_done.disconnect(on_step)
        for job in engine.queued_jobs:
            engine.cancel(job.id)
        engine.cancel_current()
        self._wait(lambda: engine.current_job is None and not engine.queued_jobs)
        self._models.form.restore_defaults()

    def _dialog(self, action: str, name: str) -> None:
        found = self._window.findChild(QAction, f"action_{action}")
        assert found is not None
        found.trigger()
        self._pause(SETTLE_MS)
        dialog = next(one for one in self._window.findChildren(QDialog) if one.isVisible())
        self._save(dialog, f"{name}-dark")
        dialog.close()

    def _generate(self, prompt: str, seed: int) -> None:
        form = self._models.form
        form.set_prompt(prompt)
        form.set_seed(seed)
        form.set_seed_locked(locked=True)
        self._models.studio.generate()
        self._pause(SETTLE_MS)

    def _name_of(self, folder: Path) -> str:
        catalog = self._models.catalog
        for row in range(catalog.rowCount()):
            choice = catalog.row(row)
            if choice.folder == folder and choice.usable:
                return choice.model
        raise SystemExit(f"There is no usable model in {folder}: give one with --model.")

    def _save(self, widget: QWidget, name: str) -> None:
        path = self._out / f"{name}.png"
        self._out.mkdir(parents=True, exist_ok=True)
        widget.grab().save(str(path))
        print(path)

    def _pause(self, milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def _wait(self, condition: Callable[[], bool]) -> None:
        clock = QElapsedTimer()
        clock.start()
        while not condition():
            if clock.elapsed() > TIMEOUT_S * 1000:
                raise SystemExit("The window did not get there in time; see the log above.")
            self._pause(50)


def main() -> int:
    """Take all pictures into a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=resource("models/demo"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    model: Path = arguments.model.absolute()
    with tempfile.TemporaryDirectory() as home:
        os.environ["HEADROOM_HOME"] = home
        paths = app_paths()
        known = () if model == resource("models/demo") else (str(model),)
        SettingsStore(paths.settings_file).save(Settings(model_folders=known, theme="dark"))
        qt = QApplication([sys.argv[0]])
        logs = set_up_logging(paths.log_file, console=sys.stderr)
        application = Application(qt, paths, logs)
        try:
            Photographer(application, arguments.out).run(model)
        finally:
            application.end()
            logs.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

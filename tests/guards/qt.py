"""Finds windows, timers and Qt threads that a test left behind.

Qt is never imported here: what is not loaded yet cannot have left anything. `QTimer.start` and
`QThread.start` are replaced by functions that remember the object, because Qt has no list of
timers or threads one could ask for.
"""

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

# Qt's own helper windows, which it makes and removes at its leisure.
_KNOWN_WINDOWS = frozenset({"QTipLabel", "QComboBoxPrivateContainer"})
_QT_THREAD_GRACE_MS = 2000

_watchers: list[Callable[..., Any]] = []
_started: "weakref.WeakSet[Any]" = weakref.WeakSet()


def watch_starts() -> None:
    """Remember from now on which timers and threads start; does nothing before Qt is loaded."""
    core = _loaded("PySide6.QtCore")
    if core is None:
        return
    for qt_class in (core.QTimer, core.QThread):
        if qt_class.start not in _watchers:
            qt_class.start = _watched(qt_class.start)


def open_windows() -> frozenset[int]:
    """Addresses of all top-level widgets, visible or not."""
    return frozenset(_windows())


def active_timers() -> frozenset[int]:
    """Addresses of the timers that tick and were started by Python code."""
    return frozenset(_active("QTimer"))


def running_threads() -> frozenset[int]:
    """Addresses of the Qt threads that run and were started by Python code."""
    return frozenset(_active("QThread"))


def leaks(*, windows: frozenset[int], timers: frozenset[int], threads: frozenset[int]) -> list[str]:
    """What is there now and was not there before, in words; windows and timers are ended."""
    if _application() is None:
        return []
    _flush_deletions()
    if _windows().keys() - windows or _active("QTimer").keys() - timers:
        # Reference cycles keep Python-owned objects a little longer than the test that made them.
        gc.collect()
        _flush_deletions()
    found: list[str] = []
    for address, timer in _active("QTimer").items():
        if address not in timers:
            found.append(f"active timer: every {timer.interval()} ms, parent {timer.parent()!r}")
            timer.stop()
    for address, thread in _active("QThread").items():
        if address not in threads and not thread.wait(_QT_THREAD_GRACE_MS):
            found.append(f"running Qt thread: {thread!r}")
    for address, window in _windows().items():
        if address not in windows:
            state = "visible" if window.isVisible() else "hidden, but not deleted"
            found.append(f"window ({state}): {window!r}")
            window.close()
            window.deleteLater()
    _flush_deletions()
    return found


def _loaded(module: str) -> Any:
    return sys.modules.get(module)


def _application() -> Any:
    core = _loaded("PySide6.QtCore")
    return None if core is None else core.QCoreApplication.instance()


def _windows() -> dict[int, Any]:
    widgets = _loaded("PySide6.QtWidgets")
    if widgets is None or not isinstance(_application(), widgets.QApplication):
        return {}
    return {
        _address(window): window
        for window in widgets.QApplication.topLevelWidgets()
        if _is_valid(window) and type(window).__name__ not in _KNOWN_WINDOWS
    }


def _active(class_name: str) -> dict[int, Any]:
    core = _loaded("PySide6.QtCore")
    if core is None:
        return {}
    qt_class = getattr(core, class_name)
    return {
        _address(item): item
        for item in list(_started)
        if isinstance(item, qt_class)
        and _is_valid(item)
        and (item.isActive() if class_name == "QTimer" else item.isRunning())
    }


def _flush_deletions() -> None:
    core = _loaded("PySide6.QtCore")
    core.QCoreApplication.sendPostedEvents(None, core.QEvent.Type.DeferredDelete)
    core.QCoreApplication.processEvents()
    core.QCoreApplication.sendPostedEvents(None, core.QEvent.Type.DeferredDelete)


def _address(wrapper: Any) -> int:
    return _loaded("shiboken6").getCppPointer(wrapper)[0]


def _is_valid(wrapper: Any) -> bool:
    return _loaded("shiboken6").isValid(wrapper)


def _watched(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        _started.add(self)
        return original(self, *args, **kwargs)

    _watchers.append(start)
    return start

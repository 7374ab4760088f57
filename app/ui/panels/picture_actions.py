"""The commands of the picture panel, for its toolbar, its context menus and the window's menus."""

from collections.abc import Callable

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QKeySequence

from app.ui import theme


class PictureActions(QObject):
    """All commands on the picture shown.

    Attributes:
        follow: Checked while the running picture is shown as it is made.
        fit: Show all of the picture.
        actual_size: One pixel of the picture on one of the screen.
        zoom_in: One step.
        zoom_out: One step.
        copy_image: To the clipboard.
        copy_prompt: To the clipboard.
        save_as: To a file the user chooses.
        show_in_folder: In the file manager.
        use_settings: Bring the picture's settings back into the form.
        report: Show what was planned and measured when it was made.
        trash: Move the file to the system's trash.
        undo_trash: Bring the last one back.
        retry: Queue the failed job again.
        resume: Let the paused queue go on.
        details: Tell everything that is known about the failure.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        keys = QKeySequence.StandardKey
        self.follow = self._made(
            "follow",
            "eye",
            self.tr("&Follow the running picture"),
            self.tr("Show the picture as it is made; choosing another picture stops that"),
        )
        self.follow.setCheckable(True)
        self.follow.setChecked(True)
        self.fit = self._made(
            "fit", "zoom-fit", self.tr("&Fit"), self.tr("Show all of the picture (0)")
        )
        self.actual_size = self._made(
            "actual_size",
            "zoom-actual",
            self.tr("&100 %"),
            self.tr("One pixel of the picture on one of the screen (1)"),
        )
        self.zoom_in = self._made(
            "zoom_in",
            "zoom-in",
            self.tr("Zoom &in"),
            self.tr("Zoom in (+)"),
            keys.ZoomIn,
            everywhere=True,
        )
        self.zoom_out = self._made(
            "zoom_out",
            "zoom-out",
            self.tr("Zoom &out"),
            self.tr("Zoom out (-)"),
            keys.ZoomOut,
            everywhere=True,
        )
        self.copy_image = self._made(
            "copy_image",
            "copy",
            self.tr("&Copy picture"),
            self.tr("Copy the picture to the clipboard"),
            keys.Copy,
        )
        self.copy_prompt = self._made(
            "copy_prompt",
            "copy",
            self.tr("Copy &prompt"),
            self.tr("Copy the picture's prompt to the clipboard"),
        )
        self.save_as = self._made(
            "save_as",
            "save",
            self.tr("&Save as…"),
            self.tr("Save the picture to a file you choose"),
            keys.SaveAs,
            everywhere=True,
        )
        self.show_in_folder = self._made(
            "show_in_folder",
            "folder",
            self.tr("Show in &folder"),
            self.tr("Show the picture's file in the file manager"),
        )
        self.use_settings = self._made(
            "use_settings",
            "reuse",
            self.tr("&Use these settings again"),
            self.tr("Bring prompt, size, seed and all settings of this picture back"),
        )
        self.report = self._made(
            "report",
            "report",
            self.tr("&Report…"),
            self.tr("What memory and time were planned for it, and what it really took"),
        )
        self.trash = self._made(
            "trash",
            "trash",
            self.tr("Move to &trash"),
            self.tr("Move the picture's file to the trash; can be undone"),
            keys.Delete,
        )
        # A key held a moment too long must not take the next picture too.
        self.trash.setAutoRepeat(False)
        self.undo_trash = self._made(
            "undo_trash",
            "reset",
            self.tr("&Undo"),
            self.tr("Bring the picture back from the trash"),
            keys.Undo,
        )
        self.retry = self._made(
            "retry",
            "reset",
            self.tr("Try &again"),
            self.tr("Queue it again; where memory was short, it goes on where it was"),
        )
        self.resume = self._made(
            "resume_queue", "play", self.tr("&Resume queue"), self.tr("Start the jobs that wait")
        )
        self.details = self._made(
            "details", "info", self.tr("&Details"), self.tr("Show all that is known, to copy it")
        )

    @property
    def zooming(self) -> tuple[QAction, ...]:
        """What changes how the picture is looked at."""
        return (self.fit, self.actual_size, self.zoom_out, self.zoom_in)

    @property
    def on_picture(self) -> tuple[QAction, ...]:
        """What does something with the picture, in the order of the context menu."""
        return (
            self.copy_image,
            self.copy_prompt,
            self.save_as,
            self.show_in_folder,
            self.use_settings,
            self.report,
            self.trash,
        )

    def connect_all(self, handlers: dict[QAction, Callable[[], object]]) -> None:
        """Connect each command to what does it."""
        for action, handler in handlers.items():
            action.triggered.connect(handler)

    def _made(
        self,
        name: str,
        icon: str,
        text: str,
        tip: str,
        shortcut: QKeySequence.StandardKey | None = None,
        *,
        everywhere: bool = False,
    ) -> QAction:
        action = QAction(theme.icon(icon), text, self)
        action.setObjectName(f"action_{name}")
        action.setToolTip(tip)
        if shortcut is not None:
            action.setShortcuts(shortcut)
            # Keys that also mean something to a text or a list work in the panel only.
            action.setShortcutContext(
                Qt.ShortcutContext.WindowShortcut
                if everywhere
                else Qt.ShortcutContext.WidgetWithChildrenShortcut
            )
            sequence = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{tip} ({sequence})" if not tip.endswith(")") else tip)
        return action

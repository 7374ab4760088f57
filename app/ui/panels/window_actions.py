"""Everything that can be done from the menus, with its key."""

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from app.ui import theme

_Keys = QKeySequence.StandardKey


class WindowActions(QObject):
    """The window's commands; what they do is connected by the window."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._build_file_and_edit()
        self._build_view()
        self._build_queue()
        self._build_help()

    def _build_file_and_edit(self) -> None:
        self.open_picture = self._made(
            "open_picture",
            self.tr("&Load settings from a picture…"),
            _Keys.Open,
            icon="image",
            tip=self.tr("Bring back the settings that are stored in a picture"),
        )
        self.add_model = self._made(
            "add_model",
            self.tr("Add &model folder…"),
            icon="folder-add",
            tip=self.tr("Use a FLUX.2 model you have"),
        )
        self.open_folder = self._made(
            "open_folder",
            self.tr("Open &pictures folder"),
            icon="folder",
            tip=self.tr("Show where pictures are saved"),
        )
        self.quit = self._made("quit", self.tr("&Quit"), _Keys.Quit, fallback="Ctrl+Q")
        self.quit.setMenuRole(QAction.MenuRole.QuitRole)
        self.undo = self._edit("undo", self.tr("&Undo"), _Keys.Undo)
        self.redo = self._edit("redo", self.tr("&Redo"), _Keys.Redo)
        self.cut = self._edit("cut", self.tr("Cu&t"), _Keys.Cut)
        self.copy = self._edit("copy", self.tr("&Copy"), _Keys.Copy)
        self.paste = self._edit("paste", self.tr("&Paste"), _Keys.Paste)
        # A copied picture can be pasted wherever the focus is; editors of text come first.
        self.paste.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        self.select_all = self._edit("select_all", self.tr("Select &all"), _Keys.SelectAll)
        self.focus_prompt = self._made("focus_prompt", self.tr("&Edit prompt"), "Ctrl+L")
        self.new_seed = self._made("new_seed", self.tr("&New seed"), "Ctrl+R", icon="dice")
        self.restore_defaults = self._made(
            "restore_defaults",
            self.tr("Restore the model's &defaults"),
            icon="reset",
            tip=self.tr("Size, steps and guidance the model was made for"),
        )
        self.settings = self._made(
            "settings", self.tr("&Settings…"), _Keys.Preferences, fallback="Ctrl+,", icon="settings"
        )
        self.settings.setMenuRole(QAction.MenuRole.PreferencesRole)

    def _build_view(self) -> None:
        self.full_screen = self._made("full_screen", self.tr("F&ull screen"), _Keys.FullScreen)
        self.full_screen.setCheckable(True)
        self.reset_layout = self._made("reset_layout", self.tr("&Reset layout"))
        self.themes = QActionGroup(self)
        for name, text in (
            ("system", self.tr("Like the &system")),
            ("light", self.tr("&Light")),
            ("dark", self.tr("&Dark")),
        ):
            action = self._made(f"theme_{name}", text)
            action.setCheckable(True)
            action.setData(name)
            self.themes.addAction(action)

    def _build_queue(self) -> None:
        # Shown is the first: "Enter" is written on the key that Qt calls Return.
        self.generate = self._made(
            "generate", self.tr("&Generate"), "Ctrl+Enter", "Ctrl+Return", icon="generate"
        )
        self.generate_next = self._made(
            "generate_next",
            self.tr("Generate as the &next one"),
            "Ctrl+Shift+Enter",
            "Ctrl+Shift+Return",
            tip=self.tr("Before everything that waits in the queue"),
        )
        self.cancel = self._made("cancel", self.tr("&Cancel"), _Keys.Cancel, icon="stop")
        self.cancel.setEnabled(False)
        # Held a moment too long, these would queue twice, or end the engine with its job.
        for action in (self.generate, self.generate_next, self.cancel):
            action.setAutoRepeat(False)

    def _build_help(self) -> None:
        self.models = self._made("models", self.tr("&Models…"), "Ctrl+M", icon="model")
        self.measure = self._made(
            "measure",
            self.tr("Measure this m&achine…"),
            icon="verdict-fits",
            tip=self.tr("A few seconds of work, and plans tell times that are true here"),
        )
        self.log = self._made("log", self.tr("&Log"), "Ctrl+Shift+L", icon="log")
        self.copy_diagnostics = self._made(
            "copy_diagnostics",
            self.tr("Copy &diagnostics"),
            icon="copy",
            tip=self.tr("Versions, hardware, settings and the end of the log, without your name"),
        )
        self.shortcuts = self._made(
            "shortcuts", self.tr("&Keyboard shortcuts"), _Keys.HelpContents, icon="keyboard"
        )
        self.about = self._made("about", self.tr("&About Headroom"), icon="info")
        self.about.setMenuRole(QAction.MenuRole.AboutRole)

    def all(self) -> tuple[QAction, ...]:
        """Every action, in the order of the menus."""
        return tuple(self.findChildren(QAction))

    def _edit(self, name: str, text: str, key: QKeySequence.StandardKey) -> QAction:
        action = self._made(name, text, key)
        # Shown in the menu, but left to whatever has the focus: an editor, or the picture.
        action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        return action

    def _made(
        self,
        name: str,
        text: str,
        *keys: QKeySequence.StandardKey | str,
        fallback: str = "",
        icon: str = "",
        tip: str = "",
    ) -> QAction:
        action = QAction(text, self)
        action.setObjectName(f"action_{name}")
        if icon:
            action.setIcon(theme.icon(icon, "muted"))
        if tip:
            action.setToolTip(tip)
            action.setStatusTip(tip)
        shortcuts: list[QKeySequence] = []
        for key in keys:
            shortcuts += (
                [QKeySequence(key)] if isinstance(key, str) else QKeySequence.keyBindings(key)
            )
        if fallback and not shortcuts:
            # Not every system has a customary key for everything.
            shortcuts.append(QKeySequence(fallback))
        action.setShortcuts(shortcuts)
        return action

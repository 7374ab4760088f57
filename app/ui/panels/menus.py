"""The menu bar, made of the window's and the picture's actions."""

from collections.abc import Iterable

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QMenuBar

from app.ui.panels.picture_actions import PictureActions
from app.ui.panels.queue_panel import QueuePanel
from app.ui.panels.window_actions import WindowActions


def fill_menu_bar(
    bar: QMenuBar,
    actions: WindowActions,
    *,
    picture: PictureActions,
    queue: QueuePanel,
    views: Iterable[QAction],
) -> None:
    """Add all menus.

    Args:
        bar: The window's.
        actions: The window's.
        picture: The picture panel's.
        queue: Has the queue's.
        views: Show or hide parts of the window.
    """
    file = _menu(bar, "file", bar.tr("&File"))
    file.addActions([actions.open_picture, actions.add_model])
    file.addSeparator()
    file.addActions([picture.save_as, picture.show_in_folder, actions.open_folder])
    file.addSeparator()
    file.addAction(actions.quit)
    edit = _menu(bar, "edit", bar.tr("&Edit"))
    edit.addActions([actions.undo, actions.redo])
    edit.addSeparator()
    edit.addActions([actions.cut, actions.copy, actions.paste, actions.select_all])
    edit.addSeparator()
    edit.addActions([actions.focus_prompt, actions.new_seed, actions.restore_defaults])
    edit.addSeparator()
    edit.addAction(actions.settings)
    view = _menu(bar, "view", bar.tr("&View"))
    view.addActions(list(views))
    view.addSeparator()
    view.addActions(list(picture.zooming))
    view.addSeparator()
    looks = view.addMenu(bar.tr("&Theme"))
    looks.setObjectName("menu_theme")
    looks.addActions(actions.themes.actions())
    view.addActions([actions.full_screen, actions.reset_layout])
    jobs = _menu(bar, "queue", bar.tr("&Queue"))
    jobs.addActions([actions.generate, actions.generate_next, actions.cancel])
    jobs.addSeparator()
    jobs.addActions([queue.pause, queue.cancel_waiting, queue.clear_ended])
    tools = _menu(bar, "tools", bar.tr("&Tools"))
    tools.addActions([actions.models, actions.measure, actions.log])
    help_menu = _menu(bar, "help", bar.tr("&Help"))
    help_menu.addActions([actions.shortcuts, actions.copy_diagnostics])
    help_menu.addSeparator()
    help_menu.addAction(actions.about)


def _menu(bar: QMenuBar, name: str, title: str) -> QMenu:
    menu = bar.addMenu(title)
    menu.setObjectName(f"menu_{name}")
    menu.setToolTipsVisible(True)
    return menu

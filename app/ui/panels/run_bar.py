"""What a run had to change, in a bar above the picture: it stays until the next run."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QWidget

from app.ui.models.run_news import News, RunNews
from app.ui.widgets.message_bar import MessageBar

SHOWN_LINES = 3


class RunBar(MessageBar):
    """Says the newest announcements of a run, also to screen readers."""

    def __init__(self, news: RunNews, parent: QWidget | None = None) -> None:
        super().__init__("run_message", parent)
        self._news = news
        news.told.connect(self._on_told)
        news.began.connect(self._on_began)

    @Slot(object)
    def _on_told(self, _news: News) -> None:
        lines = [one.text for one in self._news.lines]
        self.setToolTip("\n".join(lines))
        self.show_message("\n".join(lines[-SHOWN_LINES:]), kind="info")

    @Slot(str)
    def _on_began(self, _job_id: str) -> None:
        self.hide()

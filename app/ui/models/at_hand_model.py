"""What earlier runs have left for what would be made now; looked up beside the window."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal

from app.core.policy import MemoryPolicy
from app.core.profile import DeviceProfile
from app.core.request import GenerationRequest
from app.engine.kept_for_runs import KeptFolders, look_up
from app.engine.model_folder import ModelInfo
from app.engine.planning.at_hand import AtHand
from app.ui.models.background import Background

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    info: ModelInfo | None
    request: GenerationRequest
    device: DeviceProfile
    policy: MemoryPolicy


class AtHandModel(QObject):
    """Keeps the latest answer; of questions asked meanwhile only the last is answered.

    Signals:
        changed(): The latest answer is another one.
    """

    changed = Signal()

    def __init__(
        self,
        background: Background,
        folders: Callable[[], KeptFolders],
        parent: QObject | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            background: Where the disk is looked at.
            folders: Where runs leave what they make, by the settings of the moment.
            parent: Owner.
        """
        super().__init__(parent)
        self._background = background
        self._folders = folders
        self._model = ""
        self._found: AtHand | None = None
        self._is_looking = False
        self._waiting: _Question | None = None

    def latest(self, model: str) -> AtHand | None:
        """The latest answer; None when nothing is known of this model yet.

        It may be about the prompt as it was a letter ago: `changed` tells when it is not so.
        """
        return self._found if model == self._model else None

    def look(
        self,
        info: ModelInfo | None,
        request: GenerationRequest,
        device: DeviceProfile,
        policy: MemoryPolicy,
    ) -> None:
        """Look again: a file may have come or gone although the question is the same."""
        self._waiting = _Question(info=info, request=request, device=device, policy=policy)
        self._look_on()

    def _look_on(self) -> None:
        asked = self._waiting
        if asked is None or self._is_looking:
            return
        self._waiting, self._is_looking = None, True
        folders, model = self._folders(), asked.request.model
        self._background.run(
            lambda: look_up(asked.info, asked.request, asked.device, asked.policy, folders),
            lambda found: self._on_found(model, found),
            lambda error: self._on_failed(model, error),
        )

    def _on_found(self, model: str, found: AtHand) -> None:
        before = self._model, self._found
        self._model, self._found = model, found
        self._is_looking = False
        self._look_on()
        if before != (model, found):
            self.changed.emit()

    def _on_failed(self, model: str, error: Exception) -> None:
        log.info("what is kept for %s cannot be told: %s", model, error)
        self._on_found(model, AtHand())

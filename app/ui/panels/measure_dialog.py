"""Measure this machine: what that does, how far it is, and what was found."""

from PySide6.QtCore import Qt, Slot
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.core.machine_speeds import MachineSpeeds
from app.core.units import format_bandwidth, format_bytes, format_flops, format_seconds
from app.ui import theme
from app.ui.models.measuring_model import MeasuringModel, MeasuringStage, MeasuringState


class MeasureDialog(QDialog):
    """Begins the measuring, which goes on when this is closed."""

    def __init__(self, measuring: MeasuringModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("measure_dialog")
        self.setWindowTitle(self.tr("Measure this machine"))
        self.setMinimumWidth(480)
        self._measuring = measuring
        explained = QLabel(
            self.tr(
                "A few seconds of real work show how fast this machine computes, copies weights "
                "and reads models. Plans then tell times that are true here, instead of what "
                "machines like it usually do. Nothing leaves the machine. Let nothing else work "
                "on the GPU meanwhile."
            ),
            self,
        )
        explained.setObjectName("measure_explained")
        explained.setWordWrap(True)
        self._said = QLabel(self)
        self._said.setObjectName("measure_said")
        self._said.setWordWrap(True)
        self._progress = QProgressBar(self)
        self._progress.setObjectName("measure_progress")
        self._progress.setAccessibleName(self.tr("Measuring"))
        # Nobody can tell how long an engine takes to start.
        self._progress.setRange(0, 0)
        self._progress.setTextVisible(False)
        self._found = QWidget(self)
        self._found.setObjectName("measure_found")
        self._rows = QFormLayout(self._found)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setHorizontalSpacing(16)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("measure_buttons")
        buttons.rejected.connect(self.reject)
        self._begin = QPushButton(self.tr("&Measure"), self)
        self._begin.setObjectName("measure_begin")
        self._begin.setToolTip(self.tr("Takes a few seconds, longer when the engine has to start"))
        self._begin.setDefault(True)
        self._begin.clicked.connect(measuring.measure)
        buttons.addButton(self._begin, QDialogButtonBox.ButtonRole.ActionRole)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(explained)
        layout.addWidget(self._progress)
        layout.addWidget(self._found)
        layout.addWidget(self._said)
        layout.addWidget(buttons)
        measuring.changed.connect(self._show)
        self._show(measuring.state)

    @Slot(object)
    def _show(self, state: MeasuringState) -> None:
        self._progress.setVisible(state.stage is MeasuringStage.MEASURING)
        self._begin.setEnabled(self._measuring.possible)
        text = self._text(state)
        self._said.setText(text)
        self._said.setVisible(bool(text))
        theme.set_role(self._said, "problem" if state.stage is MeasuringStage.FAILED else "muted")
        while self._rows.rowCount():
            self._rows.removeRow(0)
        if state.speeds is not None:
            self._fill(state.speeds)
        self._found.setVisible(state.speeds is not None)
        self.adjustSize()

    def _text(self, state: MeasuringState) -> str:
        match state.stage:
            case MeasuringStage.MEASURING:
                return self.tr("Measuring… You may go on working; runs begin after it.")
            case MeasuringStage.FAILED:
                return state.problem
            case MeasuringStage.DONE if state.speeds is not None:
                done = self.tr("Measured in {time}; plans reckon with it from now on.").format(
                    time=format_seconds(state.speeds.seconds)
                )
                return " ".join((done, *filter(None, (*state.speeds.remarks, state.problem))))
            case _ if not self._measuring.possible:
                return self.tr("A run is going on: measure when it is done.")
            case _:
                return ""

    def _fill(self, speeds: MachineSpeeds) -> None:
        pinned, pageable = speeds.pinned_bytes_per_s, speeds.pageable_bytes_per_s
        read, context = speeds.read_bytes_per_s, speeds.context_bytes
        compute = self.tr("{speed} in {precision}").format(
            speed=format_flops(speeds.compute_flops), precision=speeds.precision
        )
        for name, text in (
            (self.tr("Device"), speeds.device_name),
            (self.tr("Computing"), compute),
            (self.tr("Copies to the GPU"), "" if pinned is None else format_bandwidth(pinned)),
            (
                self.tr("Copies without pinned memory"),
                "" if pageable is None else format_bandwidth(pageable),
            ),
            (self.tr("Reading models"), "" if read is None else format_bandwidth(read)),
            (
                self.tr("Held by the engine itself"),
                "" if context is None else format_bytes(context),
            ),
        ):
            if text:
                value = QLabel(text, self._found)
                value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                self._rows.addRow(name, value)

"""A run after it ended: what was planned, what was measured, and by how much they differ."""

import logging
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.core.run_report import AnyReport, PhaseReport, RunReport
from app.core.run_report_file import report_csv, write_report
from app.core.units import format_bandwidth, format_bytes, format_seconds
from app.ui import theme
from app.ui.widgets.series_style import mark_name
from app.ui.widgets.wrapping_label import WrappingLabel

log = logging.getLogger(__name__)

_TIMES = 5.0
"""From so many times what was planned on, nobody reads it in per cent."""


class ReportDialog(QDialog):
    """A table of the phases, what gave way, and buttons to take it along."""

    def __init__(self, report: AnyReport, name: str, parent: QWidget | None = None) -> None:
        """Show a report.

        Args:
            report: Of the run.
            name: Of the picture, for the suggested file name.
            parent: Owner.
        """
        super().__init__(parent)
        self.setObjectName("report_dialog")
        self.setWindowTitle(self.tr("Report of {name}").format(name=name))
        self._report = report
        self._name = name
        self._streamed = any(phase.streamed is not None for phase in report.phases)
        self.resize(960 if self._streamed else 680, 380)
        self._table = self._made_table()
        self._said = WrappingLabel(self)
        self._said.setObjectName("report_said")
        theme.set_role(self._said, "muted")
        self._said.hide()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("report_buttons")
        buttons.rejected.connect(self.reject)
        for text, object_name, tip, slot in (
            (
                self.tr("&Save as…"),
                "report_save",
                self.tr("Save it as JSON with everything, or as a table (CSV)"),
                self._save,
            ),
            (
                self.tr("&Copy table"),
                "report_copy",
                self.tr("Copy the table to the clipboard, for a spreadsheet"),
                self._copy,
            ),
        ):
            button = QPushButton(text, self)
            button.setObjectName(object_name)
            button.setToolTip(tip)
            button.setAutoDefault(False)
            button.clicked.connect(slot)
            buttons.addButton(button, QDialogButtonBox.ButtonRole.ActionRole)
        summary = QLabel(self._summary(), self)
        summary.setObjectName("report_summary")
        summary.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(summary)
        layout.addWidget(self._table, 1)
        if report.rungs:
            layout.addWidget(self._rungs())
        layout.addWidget(self._said)
        layout.addWidget(buttons)

    @classmethod
    def ask_file(cls, parent: QWidget, suggested: str) -> Path | None:
        """Let the user choose where the report goes."""
        chosen, _ = QFileDialog.getSaveFileName(
            parent,
            parent.tr("Save report"),
            suggested,
            parent.tr("Everything (*.json);;Table (*.csv)"),
        )
        return Path(chosen) if chosen else None

    def _made_table(self) -> QTableWidget:
        heads = [
            self.tr("Phase"),
            self.tr("Planned"),
            self.tr("Measured"),
            self.tr("Error"),
            self.tr("Planned"),
            self.tr("Took"),
            self.tr("Error"),
        ]
        tips: dict[int, str] = {}
        if self._streamed:
            compared = self.tr("Computing stood still for weights, from the second step on")
            tips = dict.fromkeys((len(heads) + 2, len(heads) + 3), compared)
            heads += [
                self.tr("Streamed"),
                self.tr("Rate"),
                self.tr("Wait planned"),
                self.tr("Waited"),
            ]
        table = QTableWidget(len(self._report.phases), len(heads), self)
        table.setObjectName("report_table")
        table.setAccessibleName(self.tr("Phases, planned and measured"))
        table.setHorizontalHeaderLabels(heads)
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setShowGrid(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        for column in range(len(heads)):
            head = table.horizontalHeaderItem(column)
            if head is not None:
                head.setTextAlignment(right if column else left)
                head.setToolTip(tips.get(column, ""))
        for row, phase in enumerate(self._report.phases):
            texts = (*_cells(phase), *(_streaming_cells(phase) if self._streamed else ()))
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(right)
                table.setItem(row, column, item)
        return table

    def _summary(self) -> str:
        report = self._report
        measured = [phase.measured_bytes for phase in report.phases if phase.measured_bytes]
        parts: list[str] = []
        if measured:
            planned = max(phase.planned_bytes for phase in report.phases)
            parts.append(
                self.tr("Memory: {planned} planned at the peak, {measured} measured.").format(
                    planned=format_bytes(planned), measured=format_bytes(max(measured))
                )
            )
        took = sum(phase.measured_seconds or 0.0 for phase in report.phases)
        parts.append(
            self.tr("Time: {planned} planned, {took} taken.").format(
                planned=format_seconds(sum(phase.planned_seconds for phase in report.phases)),
                took=format_seconds(took),
            )
        )
        if isinstance(report, RunReport) and report.plan.measured_runs == 0:
            parts.append(
                self.tr("Nothing had been measured here before: the times were assumptions.")
            )
        if report.resumed_at:
            parts.append(
                self.tr("It went on at step {step} of a run that was broken off.").format(
                    step=report.resumed_at + 1
                )
            )
        return " ".join(parts)

    def _rungs(self) -> QLabel:
        lines = [
            f"{mark_name(one.phase.value)}: {one.before} → {one.after}. {one.reason}"
            for one in self._report.rungs
        ]
        label = QLabel("\n".join(lines), self)
        label.setObjectName("report_rungs")
        label.setWordWrap(True)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(report_csv(self._report))
        self._say(self.tr("The table is on the clipboard."))

    def _save(self) -> None:
        path = self.ask_file(self, f"{Path(self._name).stem}-report.json")
        if path is None:
            return
        try:
            write_report(self._report, path)
        except OSError as error:
            log.info("report cannot be saved: %s", error)
            self._say(
                self.tr("The report cannot be saved to {path} ({reason}).").format(
                    path=path, reason=error.strerror or error
                )
            )
        else:
            self._say(self.tr("The report is saved as {name}.").format(name=path.name))

    def _say(self, text: str) -> None:
        self._said.setText(text)
        self._said.show()


def _cells(phase: PhaseReport) -> tuple[str, ...]:
    """One line of the table as it is written."""
    measured, took = phase.measured_bytes, phase.measured_seconds
    return (
        mark_name(phase.phase.value),
        format_bytes(phase.planned_bytes),
        "–" if measured is None else format_bytes(measured),
        _error_words(phase.bytes_error),
        format_seconds(phase.planned_seconds),
        "–" if took is None else format_seconds(took),
        _error_words(phase.seconds_error),
    )


def _streaming_cells(phase: PhaseReport) -> tuple[str, ...]:
    """Of weights that came in while the phase ran, and how long computing stood still for them."""
    streamed = phase.streamed
    if streamed is None:
        return ("–",) * 4
    rate = streamed.streaming.bytes_per_s
    compared = streamed.steps > 0
    return (
        format_bytes(streamed.streaming.streamed_bytes),
        "–" if rate is None else format_bandwidth(rate),
        format_seconds(streamed.planned_waiting_s) if compared else "–",
        format_seconds(streamed.waited_s) if compared else "–",
    )


def _error_words(error: float | None) -> str:
    if error is None:
        return "–"
    if error >= _TIMES - 1:
        return f"× {error + 1:.0f}"
    text = f"{100 * error:+.0f}".replace("-", "\N{MINUS SIGN}")
    return "0 %" if text[1:] == "0" else f"{text} %"

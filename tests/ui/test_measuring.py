"""Measure this machine: the model, and its dialog."""

from dataclasses import replace

import pytest
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QDialog, QLabel, QProgressBar, QPushButton
from pytestqt.qtbot import QtBot

from app.core.calibration_store import CalibrationStore
from app.core.errors import ErrorInfo
from app.core.events import CalibrationDone, EngineReady, QueueChanged
from app.core.jobs import JobState
from app.core.machine_speeds import MachineSpeeds
from app.core.units import MIB
from app.engine.protocol import Calibrate
from app.ui.models.measuring_model import MeasuringModel, MeasuringStage
from app.ui.models.policy_file import PolicyState
from app.ui.panels.measure_dialog import MeasureDialog
from tests.fakes.conductor_stage import make_job
from tests.fakes.described import machine
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

GPU = MachineSpeeds(
    device="cuda:0",
    device_name="What torch calls it",
    torch_version="2.13.0+cu130",
    precision="bfloat16",
    compute_flops=4.2e12,
    pinned_bytes_per_s=25e9,
    pageable_bytes_per_s=8e9,
    read_bytes_per_s=3e9,
    reserved_bytes=512 * MIB,
    seconds=4.0,
    remarks=("The disk answered slowly.",),
)


@pytest.fixture
def dialog(ready: WindowParts, qtbot: QtBot) -> MeasureDialog:
    made = MeasureDialog(ready.measuring)
    qtbot.addWidget(made)
    made.show()
    return made


def begin(dialog: QDialog) -> QPushButton:
    return child(dialog, QPushButton, "measure_begin")


def said(dialog: QDialog) -> str:
    return child(dialog, QLabel, "measure_said").text()


def texts(dialog: QDialog) -> list[str]:
    return [label.text() for label in dialog.findChildren(QLabel)]


def wait_for(qtbot: QtBot, parts: WindowParts, stage: MeasuringStage) -> None:
    qtbot.waitUntil(lambda: parts.measuring.state.stage is stage)


def test_what_is_measured_on_a_gpu_is_kept_and_planned_with(
    ready: WindowParts, dialog: MeasureDialog, qtbot: QtBot
):
    plans, measuring = ready.planning.plans, ready.measuring
    ready.planning.on_event(
        EngineReady(
            pid=1,
            device="cuda:0",
            device_name=GPU.device_name,
            torch_version=GPU.torch_version,
            diffusers_version="0",
        )
    )
    ready.planning.machine.set_driver("NVIDIA 580.65")
    ready.planning.policy.set_device("Fake GPU")
    ready.planning.policy.set_state(PolicyState())
    for model in (ready.planning, measuring):
        model.on_sample(machine(12.0))
    qtbot.waitUntil(lambda: plans.state.plan is not None)
    before = plans.state.plan
    begin(dialog).click()
    ((name, command),) = ready.control.calls
    assert name == "calibrate"
    assert isinstance(command, Calibrate)
    assert str(ready.models_root / "demo") in command.model_folders
    assert not begin(dialog).isEnabled()
    assert child(dialog, QProgressBar, "measure_progress").isVisible()
    ready.engine.on_event(CalibrationDone(speeds=GPU))
    assert measuring.state.stage is MeasuringStage.MEASURING, "until the GPU's samples are in"
    with qtbot.waitSignal(plans.changed):
        measuring.on_sample(machine(12.0, ours_gib=3.0))
        measuring.on_sample(machine(12.0, ours_gib=1.0))
    assert measuring.state.stage is MeasuringStage.DONE
    assert plans.state.plan != before
    assert plans.state.inputs is not None
    calibration = plans.state.inputs.device.calibration
    assert calibration.compute_flops == GPU.compute_flops
    assert calibration.copy_bytes_per_s == GPU.pinned_bytes_per_s
    assert calibration.context_bytes == 512 * MIB
    assert "4.2 TFLOPS in bfloat16" in texts(dialog)
    assert "512 MB" in texts(dialog)
    assert said(dialog).startswith("Measured in 4.00 s")
    assert GPU.remarks[0] in said(dialog)
    assert begin(dialog).isEnabled()
    assert not child(dialog, QProgressBar, "measure_progress").isVisible()


def test_without_a_gpu_nothing_is_waited_for(
    ready: WindowParts, dialog: MeasureDialog, qtbot: QtBot
):
    ready.measuring.on_sample(machine(None))
    begin(dialog).click()
    speeds = replace(GPU, device="cpu", device_name="A processor", reserved_bytes=None)
    ready.engine.on_event(CalibrationDone(speeds=speeds))
    wait_for(qtbot, ready, MeasuringStage.DONE)
    key = ready.planning.machine.key_of(speeds, None)
    assert key.gpu_name == "A processor"
    assert ready.calibration.speeds(key) == speeds


def test_where_the_driver_does_not_tell_the_context_stays_unknown(
    ready: WindowParts, dialog: MeasureDialog, qtbot: QtBot
):
    begin(dialog).click()
    ready.engine.on_event(CalibrationDone(speeds=GPU))
    wait_for(qtbot, ready, MeasuringStage.DONE)
    assert ready.measuring.state.speeds == GPU


def test_a_failure_is_said_and_it_may_be_tried_again(ready: WindowParts, dialog: MeasureDialog):
    begin(dialog).click()
    error = ErrorInfo(code="engine.calibration", message="The GPU has no memory left for it.")
    ready.engine.on_event(CalibrationDone(error=error))
    assert said(dialog) == "The GPU has no memory left for it."
    assert begin(dialog).isEnabled()
    begin(dialog).click()
    assert len(ready.control.calls) == 2


def test_what_cannot_be_kept_is_said(ready: WindowParts, qtbot: QtBot):
    (ready.home / "file").write_bytes(b"no folder")
    measuring = MeasuringModel(
        ready.engine,
        ready.control,
        ready.catalog,
        ready.planning.machine,
        ready.background,
        store=CalibrationStore(ready.home / "file" / "calibration.json"),
        scratch=ready.home,
    )
    dialog = MeasureDialog(measuring)
    qtbot.addWidget(dialog)
    begin(dialog).click()
    ready.engine.on_event(CalibrationDone(speeds=GPU))
    qtbot.waitUntil(lambda: measuring.state.stage is MeasuringStage.FAILED)
    assert said(dialog).startswith("What was measured cannot be kept (")
    assert "4.2 TFLOPS in bfloat16" in texts(dialog)


def test_beside_a_run_it_waits(ready: WindowParts, dialog: MeasureDialog):
    job = replace(make_job("a"), state=JobState.RUNNING)
    ready.engine.on_event(QueueChanged(jobs=(job,)))
    assert not begin(dialog).isEnabled()
    assert said(dialog) == "A run is going on: measure when it is done."
    ready.measuring.measure()
    assert ready.control.calls == []
    ready.engine.on_event(QueueChanged(jobs=(replace(job, state=JobState.FINISHED),)))
    assert begin(dialog).isEnabled()
    assert said(dialog) == ""


def test_an_answer_nobody_asked_for_is_not_kept(ready: WindowParts, dialog: MeasureDialog):
    ready.engine.on_event(CalibrationDone(speeds=GPU))
    assert ready.measuring.state.stage is MeasuringStage.NOT_YET


def test_a_file_that_cannot_be_read_is_never_overwritten_and_that_is_said(
    ready: WindowParts, dialog: MeasureDialog, qtbot: QtBot
):
    path = ready.home / "data" / "calibration.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"schema_version": 999, "entries": []}')
    begin(dialog).click()
    ready.engine.on_event(CalibrationDone(speeds=GPU))
    wait_for(qtbot, ready, MeasuringStage.DONE)
    assert ready.calibration.problem
    assert ready.calibration.problem in said(dialog)
    assert "999" in path.read_text()


def test_the_menu_opens_it(ready: WindowParts, qtbot: QtBot):
    window = ready.window()
    qtbot.addWidget(window)
    window.show()
    child(window, QAction, "action_measure").trigger()
    dialog = child(window, MeasureDialog, "measure_dialog")
    assert dialog.isVisible()
    dialog.close()

"""The list of reference images over the form: files, order, what is known of each, plans."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtGui import QImage
from PySide6.QtTest import QAbstractItemModelTester
from pytestqt.qtbot import QtBot

from app.core.atomic import write_atomic
from app.core.metadata import ImageRecord, ReferenceRecord, record_from_json, record_to_json
from app.core.plan import Verdict
from app.core.reference_image import digest_of_file
from app.core.request import MAX_REFERENCES, GenerationRequest
from app.core.units import GIB
from app.engine.planner import plan_generation
from app.ui.models import picture_files
from app.ui.models.form import SessionFile
from app.ui.models.pasted_pictures import KEPT_S, keep_picture, sweep_pictures
from app.ui.models.plan_inputs import PlanInputs
from app.ui.models.references_model import ASSUMED_SIZE, ReferencesModel
from app.ui.models.remedies import Remedy, RemedyKind, fitting
from app.ui.models.reused_references import reused_references
from tests.fakes.described import machine
from tests.fakes.pictures import picture_file
from tests.fakes.window import WindowParts

BASE = "klein-base-4b"


@pytest.fixture
def references(ready: WindowParts) -> ReferencesModel:
    QAbstractItemModelTester(
        ready.references, QAbstractItemModelTester.FailureReportingMode.Fatal, ready.references
    )
    return ready.references


def names(references: ReferencesModel) -> list[str]:
    return [row.name for row in references.references]


def wait_until_looked(qtbot: QtBot, references: ReferencesModel) -> None:
    qtbot.waitUntil(lambda: all(row.size or row.problem for row in references.references))


def files(folder: Path, count: int) -> list[str]:
    return [
        picture_file(folder / f"{number}.png", 80 + 16 * number, 64, seed=number)
        for number in range(count)
    ]


def test_added_files_are_in_the_request_and_survive_a_restart(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    paths = files(tmp_path, 2)
    references.add(paths)
    assert ready.form.request().references == tuple(paths)
    wait_until_looked(qtbot, references)
    assert [row.size for row in references.references] == [(80, 64), (96, 64)]
    assert not any(row.thumbnail.isNull() for row in references.references)
    ready.form.flush()
    session = SessionFile(tmp_path / "data" / "session.json")
    assert session.load().references == tuple(paths)


def test_sessions_without_references_are_read(tmp_path: Path):
    write_atomic(tmp_path / "session.json", b'{"schema_version": 1, "prompt": "a"}')
    form = SessionFile(tmp_path / "session.json").load()
    assert (form.prompt, form.references) == ("a", ())


def test_order_can_be_changed_and_files_taken_off(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path
):
    paths = files(tmp_path, 4)
    references.add([paths[0], paths[3]])
    references.add([paths[1], paths[2]], before=1)
    assert names(references) == ["0.png", "1.png", "2.png", "3.png"]
    references.move(3, 0)
    assert names(references) == ["3.png", "0.png", "1.png", "2.png"]
    references.move(0, 2)
    assert names(references) == ["0.png", "1.png", "3.png", "2.png"]
    for row, to in ((0, -1), (3, 4), (9, 0)):
        references.move(row, to)
    references.remove(2)
    references.remove(7)
    assert names(references) == ["0.png", "1.png", "2.png"]
    assert ready.form.form.references == (paths[0], paths[1], paths[2])
    assert Path(paths[3]).exists()


def test_a_file_is_on_the_list_once_and_the_list_has_an_end(
    references: ReferencesModel, tmp_path: Path, qtbot: QtBot
):
    paths = files(tmp_path, MAX_REFERENCES + 2)
    references.add([paths[0], paths[0]])
    with qtbot.waitSignal(references.told, check_params_cb=lambda text: "already" in text):
        references.add([paths[0]])
    with qtbot.waitSignal(references.told, check_params_cb=lambda text: "2 more" in text):
        references.add(paths)
    assert len(references.references) == MAX_REFERENCES
    assert not references.can_add


def test_a_file_that_cannot_be_one_says_why_and_is_looked_at_again(
    references: ReferencesModel, tmp_path: Path, qtbot: QtBot
):
    path = tmp_path / "later.png"
    references.add([path])
    wait_until_looked(qtbot, references)
    (row,) = references.references
    assert "is not there:" in row.problem
    picture_file(path, 64, 128)
    with qtbot.waitSignal(references.sizes_changed):
        references.look_again()
    (row,) = references.references
    assert (row.size, row.problem) == ((64, 128), "")


def test_a_look_that_comes_too_late_changes_nothing(
    references: ReferencesModel, tmp_path: Path, qtbot: QtBot
):
    paths = files(tmp_path, 2)
    references.add(paths)
    references.remove(0)
    wait_until_looked(qtbot, references)
    assert names(references) == ["1.png"]


def test_a_pasted_picture_gets_a_file(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    image = QImage(70, 90, QImage.Format.Format_RGB32)
    image.fill(0x336699)
    with qtbot.waitSignal(references.rows_changed):
        references.add_image(image)
    wait_until_looked(qtbot, references)
    (row,) = references.references
    assert row.size == (70, 90)
    assert Path(row.path).parent == tmp_path / "data" / "pasted"
    with qtbot.waitSignal(references.told):
        references.add_image(image)


def test_a_pasted_picture_that_cannot_be_kept_is_said(
    references: ReferencesModel, tmp_path: Path, qtbot: QtBot
):
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "pasted").touch()
    image = QImage(70, 90, QImage.Format.Format_RGB32)
    with qtbot.waitSignal(references.told, check_params_cb=lambda text: "cannot be kept" in text):
        references.add_image(image)


def test_pictures_pasted_long_ago_are_swept_unless_they_are_in_use(tmp_path: Path):
    images = [QImage(64, 64 + number, QImage.Format.Format_RGB32) for number in range(3)]
    for number, image in enumerate(images):
        image.fill(number)
    old, used, new = (keep_picture(image, tmp_path) for image in images)
    long_ago_s = time.time() - KEPT_S - 60
    for path in (old, used):
        os.utime(path, (long_ago_s, long_ago_s))
    sweep_pictures(tmp_path, [str(used)])
    assert [path.exists() for path in (old, used, new)] == [False, True, True]


# Plans.


def planned(ready: WindowParts, qtbot: QtBot, vram_gib: float = 24.0) -> PlanInputs:
    plans = ready.planning.plans
    ready.form.set_model(BASE)
    ready.planning.on_sample(machine(vram_gib))
    qtbot.waitUntil(lambda: plans.state.inputs is not None)
    assert plans.state.inputs is not None
    return plans.state.inputs


def test_plans_count_the_sizes_of_the_files(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    plans = ready.planning.plans
    planned(ready, qtbot)
    assert plans.state.reference_costs == ()
    large = picture_file(tmp_path / "large.jpg", 1400, 1100)
    small = picture_file(tmp_path / "small.png", 256, 192)
    references.add([large, small, str(tmp_path / "gone.png")])
    sizes = ((1400, 1100), (256, 192), ASSUMED_SIZE)
    qtbot.waitUntil(
        lambda: plans.state.inputs is not None and plans.state.inputs.references == sizes
    )
    costs = plans.state.reference_costs
    assert len(costs) == 3
    assert costs[0].bytes > costs[1].bytes > 0
    assert costs[0].seconds > costs[1].seconds > 0


def test_too_many_references_are_offered_to_be_left_out(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    inputs = planned(ready, qtbot)
    paths = tuple(str(tmp_path / f"{number}.png") for number in range(MAX_REFERENCES))
    size = (1024, 1024)
    asked = replace(
        inputs.asking(references=paths),
        references=(size,) * MAX_REFERENCES,
        policy=replace(inputs.policy, strict=True),
    )
    offered: list[Remedy] = []
    for free_gib in (8, 7, 6, 5, 4):
        device = replace(asked.device, free_bytes=int(free_gib * GIB))
        found = fitting(replace(asked, device=device), plan_generation)
        offered += [one for one in found.remedies if one.kind is RemedyKind.REFERENCES]
    fewer = offered[0]
    count = len(fewer.inputs.references)
    assert count < MAX_REFERENCES
    assert fewer.plan.verdict is not Verdict.DOES_NOT_FIT
    assert fewer.inputs.request.references == paths[:count]
    ready.form.set_references(paths)
    ready.planning.fitting.take(fewer)
    assert ready.form.form.references == paths[:count]


def test_how_many_would_fit_is_offered_and_asks_for_files(
    references: ReferencesModel, ready: WindowParts, qtbot: QtBot
):
    found = fitting(planned(ready, qtbot), plan_generation)
    (more,) = [one for one in found.choices if one.kind is RemedyKind.MORE_REFERENCES]
    assert f"up to {MAX_REFERENCES}" in more.label
    with qtbot.waitSignal(ready.planning.fitting.references_wanted):
        ready.planning.fitting.take(more)


# Settings that come back.


def test_settings_of_a_picture_bring_its_references_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    same, changed, gone = files(tmp_path, 3)
    records = tuple(
        ReferenceRecord.of(path, digest_of_file(path) or "") for path in (same, changed, gone)
    )
    record = ImageRecord(request=GenerationRequest(prompt="a"), seed=5, references=records)
    text = record_to_json(record)
    monkeypatch.setattr(picture_files, "read_record", lambda _path: record_from_json(text))
    found = picture_files.settings_of(tmp_path)
    assert found is not None
    assert found.references_lost == ""
    picture_file(Path(changed), 200, 100, seed=9)
    Path(gone).unlink()
    found = picture_files.settings_of(tmp_path)
    assert found is not None
    assert found.request.references == (same,)
    assert "not there any more: 2.png" in found.references_lost
    assert "changed since: 1.png" in found.references_lost


def test_a_picture_from_elsewhere_makes_no_call_to_other_computers():
    records = [ReferenceRecord(path=path, sha256="0") for path in ("//host/a.png", r"\\host\b.png")]
    found = reused_references([*records, ReferenceRecord(path="c.png", sha256="0")])
    assert found.gone == ("a.png", "b.png", "c.png")
    assert found.paths == ()


def test_a_result_of_this_session_comes_back_with_what_is_still_there(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    here, gone = files(tmp_path, 2)
    Path(gone).unlink()
    request = GenerationRequest(prompt="a", references=(here, gone))
    with qtbot.waitSignal(
        ready.studio.reused, check_params_cb=lambda one: "1.png" in one.text and not one.is_whole
    ):
        ready.studio.use(request)
    assert ready.form.form.references == (here,)


def test_generate_is_refused_while_a_file_cannot_be_used(
    references: ReferencesModel, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    (path,) = files(tmp_path, 1)
    ready.form.set_prompt("a fox")
    references.add([path])
    wait_until_looked(qtbot, references)
    Path(path).unlink()
    with qtbot.waitSignal(ready.studio.refused) as refused:
        ready.studio.generate()
    assert refused.args is not None
    assert [one.code for one in refused.args[0]] == ["request.reference_missing"]
    assert not ready.control.submitted
    picture_file(Path(path), 64, 64)
    ready.studio.generate()
    ((job, _front),) = ready.control.submitted
    assert job.request.references == (path,)

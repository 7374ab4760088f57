"""The queue as a list."""

import random
from dataclasses import replace

import pytest
from PySide6.QtCore import QPersistentModelIndex, Qt

from app.core.events import PhaseStarted
from app.core.jobs import JobState, Phase
from app.ui.models.engine_model import EngineModel
from app.ui.models.jobs_model import JOB_ROLE, PROGRESS_ROLE, JobsModel, model_name, prompt_excerpt
from tests.fakes.job_control import FakeJobControl
from tests.ui.run_events import job, queue

QUEUED = JobState.QUEUED


@pytest.fixture
def engine(qapp):
    model = EngineModel(FakeJobControl())
    yield model
    model.on_event(queue())


@pytest.fixture
def jobs(engine: EngineModel, qtmodeltester) -> JobsModel:
    model = JobsModel(engine)
    qtmodeltester.check(model, force_py=True)
    return model


def ids(model: JobsModel) -> list[str]:
    return [model.index(row).data(JOB_ROLE).id for row in range(model.rowCount())]


def test_rows_are_the_jobs_in_their_order(engine, jobs):
    engine.on_event(queue(job("a"), job("b", QUEUED), job("c", JobState.FINISHED)))
    assert ids(jobs) == ["a", "b", "c"]
    assert jobs.index(0).data() == "prompt of a"
    assert jobs.count(QUEUED, JobState.FINISHED) == 2


def test_a_model_made_later_has_the_jobs_already_known(engine):
    engine.on_event(queue(job("a"), job("b", QUEUED)))
    assert ids(JobsModel(engine)) == ["a", "b"]


def test_any_change_of_order_ends_in_the_right_rows(engine, jobs):
    chance = random.Random(7)
    for _ in range(30):
        names = chance.sample("abcdefgh", chance.randint(0, 8))
        engine.on_event(queue(*(job(name, QUEUED) for name in names)))
        assert ids(jobs) == names


def test_rows_keep_their_identity_when_jobs_move(engine, jobs):
    engine.on_event(queue(job("a", QUEUED), job("b", QUEUED), job("c", QUEUED)))
    kept = QPersistentModelIndex(jobs.index(2))
    engine.on_event(queue(job("c", QUEUED), job("b", QUEUED)))
    assert kept.row() == 0
    assert kept.data(JOB_ROLE).id == "c"


def test_a_changed_job_is_told_and_others_are_not(engine, jobs):
    engine.on_event(queue(job("a", QUEUED), job("b", QUEUED)))
    rows: list[int] = []
    jobs.dataChanged.connect(lambda first, last, roles: rows.append(first.row()))
    engine.on_event(queue(job("a", QUEUED), job("b", JobState.CANCELLED)))
    assert rows == [1]
    assert jobs.index(1).data(JOB_ROLE).state is JobState.CANCELLED


def test_only_the_running_job_has_progress(engine, jobs):
    engine.on_event(queue(job("a"), job("b", QUEUED)))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    assert jobs.index(0).data(PROGRESS_ROLE).phase is Phase.DENOISE
    assert jobs.index(1).data(PROGRESS_ROLE) is None


def test_only_waiting_jobs_can_be_pulled(engine, jobs):
    engine.on_event(queue(job("a"), job("b", QUEUED), job("c", JobState.FAILED, error="no")))
    drag = Qt.ItemFlag.ItemIsDragEnabled
    assert [bool(jobs.flags(jobs.index(row)) & drag) for row in range(3)] == [False, True, False]


def test_place_among_the_waiting(engine, jobs):
    engine.on_event(queue(job("a"), job("b", QUEUED), job("c", QUEUED), job("d", QUEUED)))
    assert [jobs.queued_index(name) for name in "abcd"] == [-1, 0, 1, 2]
    assert jobs.row_of("d") == 3
    assert jobs.row_of("nobody") == -1


@pytest.mark.parametrize(
    ("pulled", "row", "place"),
    # Rows: a runs, b c d wait, e ended.
    [
        ("b", 0, 0),
        ("d", 0, 0),
        ("d", 1, 0),
        ("d", 2, 1),
        ("d", 3, 2),
        ("b", 3, 1),
        ("b", 4, 2),
        ("b", 5, 2),
        ("a", 3, -1),
        ("e", 1, -1),
    ],
)
def test_where_a_drop_puts_a_job(engine, jobs, pulled: str, row: int, place: int):
    engine.on_event(
        queue(
            job("a"),
            job("b", QUEUED),
            job("c", QUEUED),
            job("d", QUEUED),
            job("e", JobState.FINISHED),
        )
    )
    assert jobs.drop_index(pulled, row) == place


def test_details_and_description_say_it_all(engine, jobs):
    failed = job(
        "a",
        JobState.FAILED,
        error="The disk is full.",
        width_px=256,
        height_px=96,
        images=3,
        model="/models/klein",
    )
    assert jobs.detail(failed) == "256 × 96 px · 3 images · 8 steps · klein"
    one = replace(failed, request=replace(failed.request, images=1, steps=1))
    assert jobs.detail(one) == "256 × 96 px · 1 step · klein"
    text = jobs.describe(failed)
    for part in ("Failed", "prompt of a", "256 × 96", "The disk is full."):
        assert part in text


def test_every_state_has_a_word_of_its_own(jobs):
    assert len({jobs.state_word(state) for state in JobState}) == len(JobState)


def test_long_prompts_are_cut_and_lines_joined():
    assert prompt_excerpt(job(prompt="a\n  b\tc")) == "a b c"
    excerpt = prompt_excerpt(job(prompt="word " * 100))
    assert len(excerpt) == 80
    assert excerpt.endswith("…")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("demo", "demo"),
        ("/models/FLUX.2-dev/", "FLUX.2-dev"),
        (r"C:\models\klein", "klein"),
        ("/", "/"),
    ],
)
def test_model_names(model: str, name: str):
    assert model_name(model) == name


def test_detail_says_how_many_references_there_are(jobs):
    one = replace(job("a"), request=replace(job("a").request, references=("/a.png",)))
    two = replace(one, request=replace(one.request, references=("/a.png", "/b.png")))
    assert "reference" not in jobs.detail(job("a"))
    assert " px · 1 reference · " in jobs.detail(one)
    assert " px · 2 references · " in jobs.detail(two)

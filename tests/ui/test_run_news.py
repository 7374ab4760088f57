"""What a run had to change is said while it goes on."""

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.core.events import (
    Downshifted,
    ImagesDeferred,
    JobFinished,
    PhaseStarted,
    RunResumed,
    WaitedForMemory,
)
from app.core.jobs import Phase
from app.core.plan import Rung
from app.ui.models.run_news import RunNews
from app.ui.panels.run_bar import RunBar
from tests.ui.find import find
from tests.ui.run_events import MEMORY


def downshifted(after: str = "decode in 512 px tiles", job_id: str = "a") -> Downshifted:
    return Downshifted(
        job_id=job_id,
        phase=Phase.DECODE,
        step=8,
        rung=Rung.TILE,
        before="decode whole",
        after=after,
        reason="Another program took 2.1 GB.",
        foreseen=True,
    )


@pytest.fixture
def news(qapp) -> RunNews:
    return RunNews()


@pytest.fixture
def bar(qtbot: QtBot, news: RunNews) -> RunBar:
    made = RunBar(news)
    qtbot.addWidget(made)
    return made


def said(bar: RunBar) -> str:
    return find(bar, QLabel, "run_message_text").text()


def test_a_downshift_is_said_with_its_reason(news: RunNews, bar: RunBar):
    assert not bar.isVisible()
    news.on_event(downshifted())
    assert bar.isVisible()
    assert said(bar) == "Decode in 512 px tiles: another program took 2.1 GB"
    assert bar.accessibleName() == said(bar)


def test_a_run_that_goes_on_says_at_which_step(news: RunNews, bar: RunBar):
    news.on_event(RunResumed(job_id="a", step=18, steps=28))
    assert said(bar) == "Going on at step 19 of 28"


def test_how_waiting_ended_is_said(news: RunNews, bar: RunBar):
    news.on_event(WaitedForMemory(job_id="a", seconds=8.0, enough=True))
    assert said(bar) == "Went on after 8.00 s, when other programs gave GPU memory back"
    news.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    news.on_event(WaitedForMemory(job_id="a", seconds=60.0, enough=False))
    line = "Waited 1 min 00 s in vain for GPU memory that other programs hold"
    assert said(bar).splitlines()[-1] == line
    assert len(news.lines) == 2


def test_images_put_off_are_counted(news: RunNews, bar: RunBar):
    news.on_event(ImagesDeferred(job_id="a", first_index=2, images=2, reason="RAM is short."))
    assert said(bar) == "2 images are made later: RAM is short"
    news.on_event(ImagesDeferred(job_id="a", first_index=1, images=1, reason=""))
    assert said(bar).endswith("1 image is made later")


def test_the_newest_lines_are_shown_and_all_are_in_the_tooltip(news: RunNews, bar: RunBar):
    for number in range(5):
        news.on_event(downshifted(f"way {number}"))
    assert said(bar).count("\n") == 2
    assert "Way 4" in said(bar)
    assert "Way 0" in bar.toolTip()
    assert len(news.lines) == 5


def test_what_gives_way_further_and_further_is_one_line(news: RunNews, bar: RunBar):
    news.on_event(downshifted("decode in 512 px tiles"))
    for now, was in (("256 px tiles", "decode in 512 px tiles"), ("the CPU", "256 px tiles")):
        news.on_event(replace(downshifted(now), before=was))
    assert said(bar) == "The CPU: another program took 2.1 GB"
    # Something else came between: then it is news again.
    news.on_event(RunResumed(job_id="a", step=1, steps=8))
    news.on_event(replace(downshifted("a smaller size"), before="the CPU"))
    assert len(news.lines) == 3


def test_it_stays_after_the_run_and_goes_with_the_next(news: RunNews, bar: RunBar):
    news.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    news.on_event(downshifted())
    news.on_event(PhaseStarted(job_id="a", phase=Phase.SAVE))
    news.on_event(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    assert bar.isVisible()
    news.on_event(PhaseStarted(job_id="b", phase=Phase.LOAD))
    assert not bar.isVisible()
    assert news.lines == ()


def test_the_same_job_run_again_begins_anew(news: RunNews, bar: RunBar):
    news.on_event(downshifted())
    news.on_event(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    news.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    assert news.lines == ()

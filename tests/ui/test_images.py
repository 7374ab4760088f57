"""Pixels on their way into Qt: right, in several sizes, and away from the GUI thread."""

from pathlib import Path

import pytest
from PySide6.QtCore import QObject, QSize, QThread, Slot
from PySide6.QtGui import QColor, QImage, qRgb

from app.core.events import Preview
from app.ui.images import (
    ImageLoader,
    LoadedPicture,
    LoadedThumbnail,
    enlarged_smoothly,
    image_of_preview,
    read_image,
    read_picture,
    read_thumbnail,
)
from tests.ui.run_events import preview, write_png

pytestmark = pytest.mark.usefixtures("qapp")


def test_preview_bytes_become_the_same_pixels():
    rgb = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    image = image_of_preview(Preview(width_px=3, height_px=2, rgb=rgb))
    assert image.size() == QSize(3, 2)
    assert image.pixel(0, 0) == qRgb(255, 0, 0)
    assert image.pixel(2, 0) == qRgb(0, 0, 255)
    assert image.pixel(1, 1) == qRgb(4, 5, 6)


def test_preview_of_wrong_length_is_no_image(expect_log):
    expect_log("has 5 bytes")
    assert image_of_preview(Preview(width_px=2, height_px=2, rgb=b"12345")).isNull()


def test_small_previews_are_enlarged_and_keep_their_proportions():
    image = QImage(16, 8, QImage.Format.Format_RGB32)
    image.fill(QColor("red"))
    large = enlarged_smoothly(image)
    assert large.size() == QSize(256, 128)
    assert large.pixel(128, 64) == qRgb(255, 0, 0)
    assert enlarged_smoothly(QImage()).isNull()


def test_png_is_read_from_file_and_from_bytes(tmp_path: Path):
    path = write_png(tmp_path / "a.png", "#102030", width_px=20, height_px=10)
    for source in (path, path.read_bytes()):
        image = read_image(source)
        assert image.size() == QSize(20, 10)
        assert image.pixel(3, 3) == qRgb(0x10, 0x20, 0x30)


def test_what_is_no_png_is_a_null_image(tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(write_png(tmp_path / "a.png").read_bytes()[:40])
    for source in (b"", b"no png", tmp_path / "absent.png", broken):
        assert read_image(source).isNull()
        assert read_picture(source) is None
        assert read_thumbnail(source, 16).isNull()


def test_large_pictures_have_halves_and_the_smallest_sufficient_one_is_chosen(tmp_path: Path):
    path = write_png(tmp_path / "a.png", width_px=4096, height_px=64)
    picture = read_picture(path)
    assert picture is not None
    assert [level.width() for level in picture.levels] == [4096, 2048, 1024]
    assert picture.level_for(1.0).width() == 4096
    assert picture.level_for(0.51).width() == 4096
    assert picture.level_for(0.5).width() == 2048
    assert picture.level_for(0.01).width() == 1024


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(400, 200, QSize(96, 48)), (200, 400, QSize(48, 96)), (40, 20, QSize(40, 20))],
)
def test_thumbnails_keep_proportions_and_are_never_enlarged(tmp_path, width, height, expected):
    path = write_png(tmp_path / "a.png", width_px=width, height_px=height)
    assert read_thumbnail(path, 96).size() == expected
    assert read_thumbnail(path.read_bytes(), 96).size() == expected


def test_extreme_proportions_keep_a_pixel(tmp_path: Path):
    path = write_png(tmp_path / "a.png", width_px=4000, height_px=10)
    assert read_thumbnail(path, 96).size() == QSize(96, 1)


class Receiver(QObject):
    """Notes what arrives and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.threads: set[QThread] = set()

    @Slot(object)
    def take(self, loaded: LoadedPicture | LoadedThumbnail) -> None:
        self.keys.append(loaded.key)
        self.threads.add(QThread.currentThread())


def test_loader_brings_pictures_and_thumbnails_to_the_gui_thread(qtbot, qapp, tmp_path: Path):
    path = write_png(tmp_path / "a.png")
    loader, receiver = ImageLoader(), Receiver()
    loader.picture_loaded.connect(receiver.take)
    loader.thumbnail_loaded.connect(receiver.take)
    loader.load_picture("one", path)
    loader.load_thumbnail("two", path, 32)
    qtbot.waitUntil(lambda: sorted(receiver.keys) == ["one", "two"])
    assert receiver.threads == {qapp.thread()}
    loader.stop()


def test_loader_skips_pictures_nobody_waits_for(qtbot, tmp_path: Path):
    path = write_png(tmp_path / "a.png")
    loader, receiver = ImageLoader(), Receiver()
    loader.picture_loaded.connect(receiver.take)
    # The reader is held by a thumbnail of a large picture, so that all requests wait together.
    large = write_png(tmp_path / "large.png", width_px=1000, height_px=1000)
    loader.load_thumbnail("large", large, 32)
    for number in range(20):
        loader.load_picture(str(number), path)
    qtbot.waitUntil(lambda: "19" in receiver.keys)
    assert len(receiver.keys) <= 2
    loader.stop()


def test_unreadable_picture_is_told(qtbot, tmp_path: Path):
    loader = ImageLoader()
    with qtbot.waitSignal(loader.picture_loaded) as blocker:
        loader.load_picture("gone", tmp_path / "gone.png")
    assert blocker.args == [LoadedPicture(key="gone", picture=None)]
    loader.stop()


def test_stopped_loader_can_be_stopped_again(tmp_path: Path):
    loader = ImageLoader()
    loader.load_thumbnail("a", write_png(tmp_path / "a.png"), 32)
    loader.stop()
    loader.stop()


def test_preview_helper_makes_a_valid_preview():
    assert image_of_preview(preview((1, 2, 3))).pixel(0, 0) == qRgb(1, 2, 3)

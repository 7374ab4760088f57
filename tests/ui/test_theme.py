"""The theme: legible in both schemes, following the choice, with icons that follow it."""

import gc

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QColor, QIcon
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.core.paths import resource
from app.ui import theme

SCHEMES: dict[theme.ThemeName, theme.Colours] = {"light": theme.LIGHT, "dark": theme.DARK}


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2.2."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    made = QColor(colour)
    return (
        0.2126 * linear(made.redF())
        + 0.7152 * linear(made.greenF())
        + 0.0722 * linear(made.blueF())
    )


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(autouse=True)
def system_theme_afterwards(qapp: QApplication):
    yield
    theme.apply(qapp, "system")


def test_contrast_of_black_and_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("back", ["window", "surface", "raised"])
@pytest.mark.parametrize("text", ["text", "muted", "accent", "warning", "danger", "good"])
def test_text_is_legible(scheme: theme.Colours, text: str, back: str):
    assert contrast(getattr(scheme, text), getattr(scheme, back)) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_text_on_the_accent_is_legible(scheme: theme.Colours):
    assert contrast(scheme.accent_text, scheme.accent) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("line", ["graph_ours", "graph_others", "graph_host", "graph_total"])
def test_graph_lines_stand_out(scheme: theme.Colours, line: str):
    assert contrast(getattr(scheme, line), scheme.surface) >= 3.0


@pytest.mark.parametrize("name", SCHEMES)
def test_apply_uses_the_chosen_scheme(qapp: QApplication, name: theme.ThemeName):
    theme.apply(qapp, name)
    assert theme.colours() == SCHEMES[name]
    assert qapp.palette().window().color() == QColor(SCHEMES[name].window)
    assert SCHEMES[name].accent in qapp.styleSheet()


def test_style_sheet_has_no_placeholder_and_its_images_exist():
    for scheme in SCHEMES.values():
        sheet = theme.style_sheet(scheme)
        assert "$" not in sheet
        for part in sheet.split('url("')[1:]:
            assert resource("icons").joinpath(part.split('"')[0]).is_file()


def rendered_colours(icon: QIcon, size_px: int, ratio: float) -> tuple[int, set[str]]:
    pixmap = icon.pixmap(QSize(size_px, size_px), ratio)
    image = pixmap.toImage()
    seen = {
        image.pixelColor(x, y).name()
        for x in range(image.width())
        for y in range(image.height())
        if image.pixelColor(x, y).alpha() == 255
    }
    return pixmap.width(), seen


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_icon_is_sharp_at_any_pixel_ratio(qapp: QApplication, ratio: float):
    width, seen = rendered_colours(theme.icon("stop"), 24, ratio)
    assert width == round(24 * ratio)
    assert seen


def test_icon_follows_the_theme_also_after_its_python_side_is_gone(qapp: QApplication):
    icon = QIcon(theme.icon("stop"))
    gc.collect()
    for name, scheme in SCHEMES.items():
        theme.apply(qapp, name)
        _, seen = rendered_colours(icon, 24, 1.0)
        assert scheme.text in seen


@pytest.mark.parametrize("name", sorted(path.stem for path in resource("icons").glob("*.svg")))
def test_every_icon_draws_something(qapp: QApplication, name: str):
    _, seen = rendered_colours(theme.icon(name), 24, 2.0)
    assert seen


def test_role_changes_the_look_of_a_widget(qapp: QApplication, qtbot):
    theme.apply(qapp, "dark")
    label = QLabel("x")
    qtbot.addWidget(label)
    theme.set_role(label, "problem")
    label.ensurePolished()
    assert label.palette().windowText().color() == QColor(theme.DARK.danger)
    theme.set_role(label, "muted")
    assert label.palette().windowText().color() == QColor(theme.DARK.muted)


@pytest.mark.parametrize("name", SCHEMES)
def test_what_stands_in_an_empty_editor_is_legible(
    qapp: QApplication, qtbot: QtBot, name: theme.ThemeName
):
    theme.apply(qapp, name)
    for editor in (QLineEdit(), QPlainTextEdit()):
        qtbot.addWidget(editor)
        editor.setPlaceholderText("HHHHHHHH")
        # As text the user cannot type in: without a cursor.
        editor.setReadOnly(True)
        editor.resize(160, 60)
        editor.ensurePolished()
        muted = editor.palette().placeholderText().color().name(QColor.NameFormat.HexArgb)
        assert muted == QColor(SCHEMES[name].muted).name(QColor.NameFormat.HexArgb)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("tint", ["accent", "danger", "warning"])
@pytest.mark.parametrize("text", ["text", "muted"])
def test_text_on_a_tinted_surface_is_legible(scheme: theme.Colours, text: str, tint: str):
    share = 0.16 if tint == "accent" else 0.14
    back = theme.mixed(getattr(scheme, tint), scheme.surface, share).name()
    assert contrast(getattr(scheme, text), back) >= 4.5

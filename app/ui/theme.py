"""How the window looks: colours of both schemes, spacing, fonts, icons and the style sheet.

Nothing here is computed at import: colours follow the system, or the user's choice, at the moment
they are asked for. A widget that paints with `colours()` repaints on `QEvent.PaletteChange`.

Widgets say what they are with `set_role(widget, "card")`; the style sheet in
`resources/style.qss` knows the roles: card, title, heading, field, muted, problem, note, figure,
primary, danger, flat, small, link, chip, banner, banner-notice, prompt.
"""

from dataclasses import asdict, dataclass
from functools import cache
from string import Template
from typing import Literal

from PySide6.QtCore import QByteArray, QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QGuiApplication,
    QIcon,
    QIconEngine,
    QPainter,
    QPalette,
    QPixmap,
)
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from app.core.paths import resource

ThemeName = Literal["system", "light", "dark"]

SPACING_PX = 8
RADIUS_PX = 8
FONT_SMALL_PX = 12
FONT_BODY_PX = 13
FONT_TITLE_PX = 15
FONT_HERO_PX = 20
ICON_PX = 18

_THEME_PROPERTY = "headroom_theme"
_STYLE_PROPERTY = "headroom_has_style"


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Colours of one scheme, as "#rrggbb".

    Attributes:
        window: Behind everything.
        surface: Panels and cards.
        raised: Inputs, buttons and what floats above a panel.
        border: Lines around inputs and cards.
        text: What is read first.
        muted: Labels, hints, units.
        accent: The one colour of the app: the main action, selection, focus.
        accent_text: On the accent.
        warning: Something to know.
        danger: Something failed, or will be lost.
        good: Something went well.
        graph_ours: Memory our engine uses.
        graph_others: Memory other programs use.
        graph_host: The computer's own memory.
        graph_total: The line of what there is in all.
    """

    window: str
    surface: str
    raised: str
    border: str
    text: str
    muted: str
    accent: str
    accent_text: str
    warning: str
    danger: str
    good: str
    graph_ours: str
    graph_others: str
    graph_host: str
    graph_total: str


DARK = Colours(
    window="#111317",
    surface="#191c22",
    raised="#23272f",
    border="#343a45",
    text="#e9ebef",
    muted="#a0a8b7",
    accent="#8fa3ff",
    accent_text="#0e1222",
    warning="#f0b429",
    danger="#ff8078",
    good="#5fd39a",
    graph_ours="#8fa3ff",
    graph_others="#e0a468",
    graph_host="#4fc7b4",
    graph_total="#a0a8b7",
)

LIGHT = Colours(
    window="#eceef2",
    surface="#f8f9fb",
    raised="#ffffff",
    border="#cfd4dd",
    text="#1a1e26",
    muted="#586174",
    accent="#4453d6",
    accent_text="#ffffff",
    warning="#875400",
    danger="#b3261e",
    good="#17693f",
    graph_ours="#4453d6",
    graph_others="#b06a1c",
    graph_host="#0d7f70",
    graph_total="#586174",
)


def is_dark() -> bool:
    """Whether the dark scheme is in use: the user's choice, else the system's."""
    app = QGuiApplication.instance()
    chosen = None if app is None else app.property(_THEME_PROPERTY)
    if chosen in ("light", "dark"):
        return chosen == "dark"
    return QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark


def colours() -> Colours:
    """Colours of the scheme in use now."""
    return DARK if is_dark() else LIGHT


def apply(app: QApplication, theme: ThemeName) -> None:
    """Give the whole application a theme; call it again when the system or the setting changes."""
    app.setProperty(_THEME_PROPERTY, theme)
    scheme = {
        "light": Qt.ColorScheme.Light,
        "dark": Qt.ColorScheme.Dark,
        "system": Qt.ColorScheme.Unknown,
    }[theme]
    app.styleHints().setColorScheme(scheme)
    # Once: with a style sheet, the style does not tell its name, and each change of it takes time.
    if not app.property(_STYLE_PROPERTY):
        app.setStyle(QStyleFactory.create("Fusion"))
        app.setProperty(_STYLE_PROPERTY, "fusion")
    font = app.font()
    font.setPixelSize(FONT_BODY_PX)
    app.setFont(font)
    app.setPalette(palette(colours()))
    app.setStyleSheet(style_sheet(colours()))


def palette(scheme: Colours) -> QPalette:
    """The scheme as a palette, for everything the style sheet does not name."""
    made = QPalette()
    roles = {
        QPalette.ColorRole.Window: scheme.window,
        QPalette.ColorRole.WindowText: scheme.text,
        QPalette.ColorRole.Base: scheme.raised,
        QPalette.ColorRole.AlternateBase: scheme.surface,
        QPalette.ColorRole.ToolTipBase: scheme.raised,
        QPalette.ColorRole.ToolTipText: scheme.text,
        QPalette.ColorRole.PlaceholderText: scheme.muted,
        QPalette.ColorRole.Text: scheme.text,
        QPalette.ColorRole.Button: scheme.raised,
        QPalette.ColorRole.ButtonText: scheme.text,
        QPalette.ColorRole.BrightText: scheme.danger,
        QPalette.ColorRole.Highlight: scheme.accent,
        QPalette.ColorRole.HighlightedText: scheme.accent_text,
        QPalette.ColorRole.Link: scheme.accent,
        QPalette.ColorRole.LinkVisited: scheme.accent,
        QPalette.ColorRole.Accent: scheme.accent,
        QPalette.ColorRole.Light: scheme.raised,
        QPalette.ColorRole.Midlight: scheme.surface,
        QPalette.ColorRole.Mid: scheme.border,
        QPalette.ColorRole.Dark: scheme.border,
        QPalette.ColorRole.Shadow: scheme.window,
    }
    for role, colour in roles.items():
        made.setColor(role, QColor(colour))
    for role in (
        QPalette.ColorRole.WindowText,
        QPalette.ColorRole.Text,
        QPalette.ColorRole.ButtonText,
    ):
        made.setColor(QPalette.ColorGroup.Disabled, role, mixed(scheme.text, scheme.surface, 0.45))
    return made


def mixed(front: str, back: str, share: float) -> QColor:
    """The colour `share` of the way from `back` to `front`."""
    one, other = QColor(front), QColor(back)
    return QColor.fromRgbF(
        other.redF() + (one.redF() - other.redF()) * share,
        other.greenF() + (one.greenF() - other.greenF()) * share,
        other.blueF() + (one.blueF() - other.blueF()) * share,
    )


def style_sheet(scheme: Colours) -> str:
    """The application's style sheet in the colours of a scheme."""
    values = {
        **asdict(scheme),
        "hover": mixed(scheme.text, scheme.raised, 0.07).name(),
        "pressed": mixed(scheme.text, scheme.raised, 0.14).name(),
        "accent_hover": mixed(scheme.text, scheme.accent, 0.14).name(),
        "accent_soft": mixed(scheme.accent, scheme.surface, 0.16).name(),
        "accent_disabled": mixed(scheme.accent, scheme.surface, 0.35).name(),
        "danger_soft": mixed(scheme.danger, scheme.surface, 0.14).name(),
        "warning_soft": mixed(scheme.warning, scheme.surface, 0.14).name(),
        "disabled": mixed(scheme.text, scheme.surface, 0.45).name(),
        "handle": mixed(scheme.text, scheme.window, 0.28).name(),
        "icons": resource("icons").as_posix(),
        "variant": "dark" if scheme is DARK else "light",
        "small": FONT_SMALL_PX,
        "body": FONT_BODY_PX,
        "title": FONT_TITLE_PX,
        "hero": FONT_HERO_PX,
        "radius": RADIUS_PX,
        "radius_small": RADIUS_PX - 2,
    }
    return Template(resource("style.qss").read_text("utf-8")).substitute(values)


def set_role(widget: QWidget, role: str) -> None:
    """Say what a widget is, for the style sheet; may be changed at any time."""
    if widget.property("role") == role:
        return
    widget.setProperty("role", role)
    # Style sheets look at properties only when a widget is polished: before it is first shown, or
    # here. Polishing one that is still being built would send it events too early.
    if widget.testAttribute(Qt.WidgetAttribute.WA_WState_Polished):
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class _SvgIconEngine(QIconEngine):
    """Draws one SVG in the text colour of the moment, sharp at any size and pixel ratio."""

    def __init__(self, source: bytes, role: str) -> None:
        super().__init__()
        self._source = source
        self._role = role

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        del state
        colour: str = getattr(colours(), self._role)
        source = self._source.replace(b"currentColor", colour.encode())
        painter.save()
        painter.setOpacity(0.4 if mode == QIcon.Mode.Disabled else 1.0)
        QSvgRenderer(QByteArray(source)).render(painter, QRectF(rect))
        painter.restore()

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        return self.scaledPixmap(size, mode, state, 1.0)

    def scaledPixmap(
        self, size: QSize, mode: QIcon.Mode, state: QIcon.State, scale: float
    ) -> QPixmap:
        pixels = QSize(round(size.width() * scale), round(size.height() * scale))
        made = QPixmap(pixels)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        self.paint(painter, QRect(QPoint(0, 0), pixels), mode, state)
        painter.end()
        return made

    def clone(self) -> QIconEngine:
        return _SvgIconEngine(self._source, self._role)


def icon(name: str, role: str = "text") -> QIcon:
    """An icon of `resources/icons/<name>.svg` in one of the theme's colours.

    Args:
        name: File name without suffix.
        role: Which of the theme's colours, such as "text", "muted" or "accent_text".

    Raises:
        OSError: There is no such icon.
    """
    return QIcon(_SvgIconEngine(_icon_source(name), role))


@cache
def _icon_source(name: str) -> bytes:
    """The file of an icon, read once: icons are asked for while the user types."""
    return resource(f"icons/{name}.svg").read_bytes()

"""Where a picture lies in a view: zoom, pan and fit as plain arithmetic.

Scale is device pixels per picture pixel, so 1.0 is 100 % on every screen; positions in the view are
in Qt's logical pixels.
"""

from PySide6.QtCore import QPointF, QRectF, QSize, QSizeF

MAX_SCALE = 32.0
MIN_SHOWN_PX = 32
"""Zooming out ends where the picture's longer edge has this many device pixels."""
ZOOM_STEP = 1.25
CRISP_ABOVE_SCALE = 2.0
"""Zoomed in above this, single pixels are shown as squares; below, the picture is smoothed."""


class ViewGeometry:
    """Zoom and position of one picture in one view.

    Attributes:
        fits: Whether the picture follows the view's size.
    """

    def __init__(self) -> None:
        self.fits = True
        self._view = QSizeF(1, 1)
        self._ratio = 1.0
        self._picture = QSizeF(1, 1)
        self._scale = 1.0
        self._center = QPointF(0.5, 0.5)

    @property
    def scale(self) -> float:
        """Device pixels per picture pixel."""
        return self._scale

    @property
    def is_crisp(self) -> bool:
        """Whether single pixels are shown as squares.

        Never while fitting: that is for looking at the picture, zooming in is for its pixels.
        """
        return not self.fits and self._scale > CRISP_ABOVE_SCALE

    @property
    def can_pan(self) -> bool:
        """Whether a part of the picture is outside the view."""
        size = self._shown_size()
        return size.width() > self._view.width() + 0.5 or size.height() > self._view.height() + 0.5

    def set_view(self, size: QSize, ratio: float) -> None:
        """The view has this logical size on a screen of this device pixel ratio."""
        self._view = QSizeF(max(1, size.width()), max(1, size.height()))
        self._ratio = ratio
        self._settle()

    def set_picture(self, size: QSize) -> None:
        """Another picture is shown; zoom and place stay when it has the size of the last."""
        picture = QSizeF(max(1, size.width()), max(1, size.height()))
        if picture != self._picture:
            self._picture = picture
            self._center = QPointF(picture.width() / 2, picture.height() / 2)
        self._settle()

    def fit(self) -> None:
        """Show all of the picture, as large as it goes."""
        self.fits = True
        self._settle()

    def zoom_to(self, scale: float, anchor: QPointF | None = None) -> None:
        """Zoom so that what is at `anchor` (the view's middle when None) stays there."""
        self.fits = False
        anchor = anchor if anchor is not None else self._middle()
        held = self.picture_point(anchor)
        self._scale = min(MAX_SCALE, max(self._min_scale(), scale))
        offset = (anchor - self._middle()) * (self._ratio / self._scale)
        self._center = held - offset
        self._settle()

    def zoom_by(self, steps: float, anchor: QPointF | None = None) -> None:
        """Zoom in by so many steps, out when negative."""
        self.zoom_to(self._scale * ZOOM_STEP**steps, anchor)

    def pan(self, delta: QPointF) -> None:
        """Move the picture by so many logical pixels."""
        self._center -= delta * (self._ratio / self._scale)
        self._settle()

    def picture_point(self, position: QPointF) -> QPointF:
        """The picture's point, in its pixels, at a position of the view."""
        return self._center + (position - self._middle()) * (self._ratio / self._scale)

    def target(self) -> QRectF:
        """The whole picture in the view, its corner on a device pixel so that 100 % is exact."""
        size = self._shown_size()
        corner = self._middle() - self._center * (self._scale / self._ratio)
        return QRectF(
            round(corner.x() * self._ratio) / self._ratio,
            round(corner.y() * self._ratio) / self._ratio,
            size.width(),
            size.height(),
        )

    def _middle(self) -> QPointF:
        return QPointF(self._view.width() / 2, self._view.height() / 2)

    def _shown_size(self) -> QSizeF:
        return self._picture * (self._scale / self._ratio)

    def _min_scale(self) -> float:
        longer = max(self._picture.width(), self._picture.height())
        return min(self._fit_scale(), MIN_SHOWN_PX / longer, 1.0)

    def _fit_scale(self) -> float:
        return min(
            MAX_SCALE,
            self._view.width() * self._ratio / self._picture.width(),
            self._view.height() * self._ratio / self._picture.height(),
        )

    def _settle(self) -> None:
        """Follow the view when fitting, and let no picture leave it."""
        if self.fits:
            self._scale = self._fit_scale()
        shown = self._shown_size()
        self._center = QPointF(
            _settled(self._center.x(), self._picture.width(), self._view.width() / shown.width()),
            _settled(
                self._center.y(), self._picture.height(), self._view.height() / shown.height()
            ),
        )


def _settled(center: float, length: float, share: float) -> float:
    """The middle of what is seen along one axis, when `share` of the picture's length fits."""
    half = length / 2
    if share >= 1:
        return half
    return min(length - half * share, max(half * share, center))

"""What is worth knowing about reference images with a model."""

from PySide6.QtCore import QCoreApplication

from app.engine.model_components import ModelFamily
from app.ui.models.catalog_model import ModelChoice

MADE_FOR = {ModelFamily.KLEIN: 4, ModelFamily.DEV: 6}
"""Reference images at most, by https://docs.bfl.ai/guides/prompting_editing_overview: more can be
given, and are followed less well."""


def reference_note(choice: ModelChoice | None, count: int) -> str:
    """A sentence about so many reference images with a model; "" when there is nothing to say."""
    if choice is None or count == 0:
        return ""
    if choice.is_demo:
        return _tr(
            "The demo model was not trained on reference images: it takes them, but the "
            "picture will not follow them."
        )
    most = None if choice.info is None else MADE_FOR.get(choice.info.family)
    if most is None or count <= most:
        return ""
    return _tr(
        "{model} was made for up to {most} reference images: it may not follow more."
    ).format(model=choice.label, most=most)


def _tr(text: str) -> str:
    return QCoreApplication.translate("ReferenceNotes", text)

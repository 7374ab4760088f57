"""The models the app knows by name, and the folders the user added."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ErrorInfo, ModelError
from app.core.paths import resource
from app.engine.model_folder import LABELS, ModelInfo, inspect_model_folder

DEMO_NAME = "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that has a name here.

    Attributes:
        name: As typed on the command line.
        label: For people.
        licence: Of the weights.
        source: Web address where its folder can be had; "" for the demo, which is built in.
        default_steps: Denoising steps it was made for.
        default_guidance: Guidance scale it was made for.
        default_size_px: Width and height it was made for.
    """

    name: str
    label: str
    licence: str
    source: str
    default_steps: int
    default_guidance: float
    default_size_px: int = 1024


def _published(name: str, repository: str, licence: str, steps: int, guidance: float) -> KnownModel:
    return KnownModel(
        name=name,
        label=LABELS[name],
        licence=licence,
        source=f"https://huggingface.co/black-forest-labs/{repository}",
        default_steps=steps,
        default_guidance=guidance,
    )


_NON_COMMERCIAL = "FLUX Non-Commercial License"

KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name=DEMO_NAME,
        label=LABELS[DEMO_NAME],
        licence="Apache-2.0",
        source="",
        default_steps=8,
        default_guidance=1.0,
        default_size_px=128,
    ),
    _published("klein-4b", "FLUX.2-klein-4B", "Apache-2.0", 4, 1.0),
    _published("klein-base-4b", "FLUX.2-klein-base-4B", "Apache-2.0", 50, 4.0),
    _published("klein-9b", "FLUX.2-klein-9B", _NON_COMMERCIAL, 4, 1.0),
    _published("klein-base-9b", "FLUX.2-klein-base-9B", _NON_COMMERCIAL, 50, 4.0),
    _published("dev", "FLUX.2-dev", "FLUX.2-dev Non-Commercial License", 28, 4.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One line of the list of models.

    Attributes:
        label: For people.
        folder: Where it is; None when it is not installed.
        info: What it is; None when it is not installed or cannot be used.
        error: Why the folder cannot be used; None when it can, and when there is none.
        known: The model's name and origin; None when it has no name here.
    """

    label: str
    folder: Path | None
    info: ModelInfo | None
    error: ErrorInfo | None
    known: KnownModel | None


class Catalog:
    """All models: the demo, the user's folders, and known ones that are not installed."""

    def __init__(self, folders: Iterable[str]) -> None:
        """Take the folders the user added, in the user's order."""
        self._folders = tuple(dict.fromkeys(Path(folder) for folder in folders))

    def entries(self) -> tuple[CatalogEntry, ...]:
        """The demo, then the user's folders, then known models that are not among them."""
        demo = resource("models/demo")
        found = [_entry(folder) for folder in (demo, *self._folders)]
        installed = {entry.known.name for entry in found if entry.known is not None}
        missing = [
            CatalogEntry(label=known.label, folder=None, info=None, error=None, known=known)
            for known in KNOWN_MODELS
            if known.name not in installed and known.name != DEMO_NAME
        ]
        return (*found, *missing)

    def resolve(self, name_or_folder: str) -> ModelInfo:
        """The model that a known name or a folder stands for; names go first.

        Raises:
            ModelError: The name is not known, the model is not installed, or its folder cannot be
                used.
        """
        name = name_or_folder.strip()
        known = _KNOWN_BY_NAME.get(name.lower())
        if known is not None:
            return self._installed(known)
        # Not the methods of paths, which raise for an unknown user and for long names.
        path = os.path.expanduser(name)
        if name and (os.path.exists(path) or Path(path).name != name):
            return inspect_model_folder(Path(path))
        near = difflib.get_close_matches(name.lower(), _KNOWN_BY_NAME, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN_BY_NAME)}."
        raise ModelError(
            f"There is no model named “{name}” and no such folder: {hint}",
            code="model.unknown_name",
        )

    def _installed(self, known: KnownModel) -> ModelInfo:
        if known.name == DEMO_NAME:
            return inspect_model_folder(resource("models/demo"))
        for folder in self._folders:
            try:
                info = inspect_model_folder(folder)
            except ModelError:
                continue  # Another folder may hold it; the list of models shows what is wrong.
            if info.name == known.name:
                return info
        raise ModelError(
            f"{known.label} is not installed: download its folder from {known.source} and add it "
            "under Models, or give the folder itself as the model.",
            code="model.not_installed",
        )


_KNOWN_BY_NAME = {known.name: known for known in KNOWN_MODELS}


def _entry(folder: Path) -> CatalogEntry:
    try:
        info = inspect_model_folder(folder)
    except ModelError as error:
        is_demo = folder == resource("models/demo")
        return CatalogEntry(
            label=LABELS[DEMO_NAME] if is_demo else folder.name or str(folder),
            folder=folder,
            info=None,
            error=error.info(),
            known=_KNOWN_BY_NAME[DEMO_NAME] if is_demo else None,
        )
    known = _KNOWN_BY_NAME[info.name] if info.name is not None else None
    return CatalogEntry(label=info.label, folder=info.folder, info=info, error=None, known=known)

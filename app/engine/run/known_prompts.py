"""Embeddings that are at hand before a model is loaded: then its text encoder is not."""

import importlib.metadata
import logging
from collections.abc import Mapping

import torch

from app.core.policy import Precision
from app.engine.embedding_cache import EmbeddingCache
from app.engine.embedding_store import EmbeddingStore
from app.engine.encoder_identity import encoder_identity
from app.engine.model_folder import ModelInfo
from app.engine.quantize.recipe import Recipe
from app.engine.run.context import RunContext
from app.engine.run.profiles import library_versions

log = logging.getLogger(__name__)


def embeddings_for(
    context: RunContext,
    info: ModelInfo,
    dtypes: Mapping[str, torch.dtype],
    recipes: Mapping[str, Recipe],
) -> EmbeddingCache:
    """An empty cache that finds on the disk what earlier engines made with the same encoder.

    Args:
        context: The run.
        info: Of its model.
        dtypes: Of the weights, by folder.
        recipes: Of the networks that are quantized, by folder.
    """
    if not context.tools.keeps_embeddings():
        return EmbeddingCache()
    try:
        identity = encoder_identity(info, runs_as=_runs_as(context, dtypes, recipes))
    except OSError as error:
        log.info("embeddings are not kept: %s", error)
        return EmbeddingCache()
    return EmbeddingCache(kept=EmbeddingStore(context.tools.embeddings, identity))


def _runs_as(
    context: RunContext, dtypes: Mapping[str, torch.dtype], recipes: Mapping[str, Recipe]
) -> tuple[str, ...]:
    device = context.device
    return (
        *(device.kind, device.name, str(device.simulated)),
        # Of the transformer, since embeddings come in its type.
        *(_kept_as(name, dtypes, recipes) for name in ("text_encoder", "transformer")),
        *library_versions(),
        *(importlib.metadata.version(name) for name in ("transformers", "diffusers")),
    )


def _kept_as(name: str, dtypes: Mapping[str, torch.dtype], recipes: Mapping[str, Recipe]) -> str:
    recipe = recipes.get(name)
    quantized = Precision.AUTO.value if recipe is None else str(recipe)
    return f"{dtypes[name]} {quantized}"

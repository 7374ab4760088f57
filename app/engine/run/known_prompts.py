"""Embeddings that are at hand before a model is loaded: then its text encoder is not."""

import importlib.metadata
import logging
from collections.abc import Mapping

import torch

from app.engine.embedding_cache import EmbeddingCache
from app.engine.embedding_store import EmbeddingStore
from app.engine.encoder_identity import encoder_identity
from app.engine.foreign_weights import foreign_of, tried_precision
from app.engine.kept_for_runs import runs_as
from app.engine.model_folder import ModelInfo
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.ways import way_of
from app.engine.run.context import RunContext

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

    Raises:
        DeviceBrokenError: See `app.engine.quantize.ways.way_for`.
        torch.OutOfMemoryError: See there.
    """
    if not context.tools.keeps_embeddings():
        return EmbeddingCache()
    device = context.device
    precision = tried_precision(
        recipes.get("text_encoder"), foreign_of(info.foreign, "text_encoder")
    )
    way = way_of(precision, device.torch_device, dtypes["text_encoder"])
    weights = [(str(dtypes[name]), recipes.get(name)) for name in ("text_encoder", "transformer")]
    try:
        how = runs_as(
            device.kind, device.name, simulated=device.simulated, weights=weights, way=way
        )
        identity = encoder_identity(info, runs_as=how)
    except (OSError, importlib.metadata.PackageNotFoundError) as error:
        log.info("embeddings are not kept: %s", error)
        return EmbeddingCache()
    return EmbeddingCache(kept=EmbeddingStore(context.tools.embeddings, identity))

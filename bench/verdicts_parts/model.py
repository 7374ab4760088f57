"""A model of real size as the engine has it after loading: all of it but the numbers."""

import functools
from pathlib import Path
from typing import Any

import torch

from app.core.plan import GenerationPlan
from app.core.policy import Precision
from app.engine.embedding_cache import EmbeddingCache
from app.engine.forecast.model_spec import ModelSpec, known_spec
from app.engine.forecast.networks import DTYPES, Networks
from app.engine.forecast.phase_calls import AnyPrompt, any_scheduler
from app.engine.libraries import diffusers_class
from app.engine.loader import LoadedModel
from app.engine.model_components import DEV, KLEIN, ModelFamily
from app.engine.model_folder import ModelInfo
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.residency.host_network import HostNetwork, packed_network
from bench.verdicts_parts.device import no_ram


def model_for(plan: GenerationPlan) -> LoadedModel:
    """The model of a plan, in the plan's precisions, with nothing of it on a device."""
    hosts = {name: _host(plan.model, name, plan.component(name).precision) for name in COMPONENTS}
    spec = known_spec(plan.model)
    return LoadedModel(
        key=("", ()),
        info=_info(spec),
        pipeline=_pipeline(spec, {name: host.network for name, host in hosts.items()}),
        dtypes={},
        quantized={},
        hosts=hosts,
        embeddings=EmbeddingCache(),
    )


@functools.lru_cache(maxsize=8)
def _host(model: str, component: str, precision: Precision) -> HostNetwork:
    """One packed component: the library's network, and buffers of the size of its weights."""
    quantized = precision in QUANTIZED
    networks = Networks(
        known_spec(model),
        "meta",
        DTYPES[Precision.BF16 if quantized else precision],
        recipe=Recipe(precision=precision) if quantized else None,
    )
    network: Any = getattr(networks, component)
    on_host: tuple[torch.nn.Module, ...] = ()
    if component == AUTOENCODER:
        # The pipelines read these few numbers also when the autoencoder is not on the device.
        network.bn = network.bn.to_empty(device="cpu")
        on_host = (network.bn,)
    return packed_network(component, network, on_host=on_host, allocate=no_ram)


def _pipeline(spec: ModelSpec, networks: dict[str, Any]) -> Any:  # noqa: ANN401 - untyped library
    components: dict[str, Any] = {
        "scheduler": any_scheduler(),
        "vae": networks[AUTOENCODER],
        "text_encoder": networks[TEXT_ENCODER],
        "tokenizer": AnyPrompt(),
        "transformer": networks[TRANSFORMER],
    }
    if spec.layout is KLEIN:
        components["is_distilled"] = spec.distilled
    pipeline: Any = diffusers_class(spec.layout.pipeline_class)(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _info(spec: ModelSpec) -> ModelInfo:
    return ModelInfo(
        folder=Path(),
        name=spec.name,
        label=spec.label,
        family=ModelFamily.DEV if spec.layout is DEV else ModelFamily.KLEIN,
        distilled=spec.distilled,
        guidance=spec.guidance,
        default_steps=spec.default_steps,
        default_guidance=4.0,
        default_width_px=1024,
        default_height_px=1024,
        weights_bytes=0,
        text_out_layers=spec.text_out_layers,
    )

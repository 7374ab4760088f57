"""A new prompt encoded through the streamed text encoder, against the floor of the same layers."""

import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.model_components import DEV, KLEIN
from app.engine.residency.host_network import HostNetwork, RamBlock
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.residence import Residence
from app.engine.residency.ring import least_slots_bytes
from app.engine.truncated_encoder import (
    TruncatedTextEncoder,
    build_text_encoder,
    restore_computed_buffers,
)
from bench.residency_parts.measured import copy_bytes_per_s
from bench.residency_parts.meters import digest_of
from bench.residency_parts.networks import DTYPE, RandomWeights, packed_block
from bench.residency_parts.places import Place, place_of
from bench.residency_parts.work import coefficients_of

Figures = dict[str, Any]
TEXT_ENCODER = "text_encoder"
TARGET = 2.0
"""Times the floor."""
SLOTS = 2
"""Times what the largest pair of layers takes."""


def measure_encode(
    model: str, device: str, *, layers: int | None = None, tries: int = 2
) -> Figures:
    """Seconds of a prompt of full length, with all layers streamed, and of the floors.

    Args:
        model: Whose text encoder it is.
        device: "cpu" or "cuda".
        layers: Only so many; None is all that are read.
        tries: The quickest counts.
    """
    place = place_of(device, None)
    shared = build_encoder(model, layers)
    tokens = made_up_tokens(shared)
    one_bytes = ModuleTensors(layers_of(shared)[0]).layout.size_bytes
    count = len(layers_of(shared))
    needed = (count + 2) * one_bytes
    figures: Figures = {
        "model": model,
        "device": device,
        "layers": count,
        "tokens": MAX_PROMPT_TOKENS,
        "weights_bytes": count * one_bytes,
        "target": TARGET,
    }
    if psutil.virtual_memory().available < 1.2 * needed:
        return {**figures, "note": f"{needed / 1e9:.1f} GB of RAM are needed"}
    with torch.no_grad():
        _fill_shared(shared, place)
        compute_s, _digest = _quickest(shared, tokens, place, tries)
        del shared
        host = _host(build_encoder(model, layers), place)
        residence = _residence(host, place)

        def encoded() -> torch.Tensor:
            residence.active = True
            residence.enter()
            try:
                return _hidden(host.network, tokens)
            finally:
                residence.active = False
                residence.leave()

        encode_s, digest = _quickest_of(encoded, place, tries)
        copied = place.transfers.take_times()
        residence.forget()
    copy_s = count * one_bytes / copy_bytes_per_s(place)
    floor_s = max(compute_s, copy_s)
    return {
        **figures,
        "compute_s": compute_s,
        "copy_s": copy_s,
        "floor_s": floor_s,
        "encode_s": encode_s,
        "over_floor": encode_s / floor_s,
        "copied_bytes": copied.copied_bytes // tries,
        "digest": digest,
    }


def build_encoder(model: str, layers: int | None) -> TruncatedTextEncoder:
    """On "meta", as the engine builds it.

    Args:
        model: Whose it is.
        layers: Only so many; None is all that are read.
    """
    layout = DEV if model == "dev" else KLEIN
    values = dict(coefficients_of(model).architecture[TEXT_ENCODER])
    if model == "dev":
        values = {"text_config": {"model_type": "mistral", **values}}
    out_layers = layout.text_out_layers if layers is None else (layers,)
    return build_text_encoder(layout.text_encoder_class, values, out_layers, DTYPE)


def layers_of(encoder: TruncatedTextEncoder) -> Any:  # noqa: ANN401 - a list of untyped modules
    """Its layers in order."""
    model: Any = encoder.model
    return model.layers


def _fill_shared(encoder: TruncatedTextEncoder, place: Place) -> None:
    """All layers use one layer's weights, so that computing needs no room for all."""
    layers = layers_of(encoder)
    weights = RandomWeights("bf16", place.device)
    weights.fill(layers[0], "model.layers.0.")
    for index in range(1, len(layers)):
        # Each keeps its own place in the network, which masks go by.
        shared = dict(layers[0].named_parameters())
        for name, parameter in shared.items():
            owner, _, attribute = name.rpartition(".")
            layers[index].get_submodule(owner).register_parameter(attribute, parameter)
    weights.fill(encoder, without=tuple(layers))
    restore_computed_buffers(encoder)
    encoder.to(place.device)
    encoder.table = made_up_table(encoder)


def made_up_table(encoder: TruncatedTextEncoder) -> torch.Tensor:
    """Embeddings of all words."""
    config: Any = encoder.model.config
    generator = torch.Generator().manual_seed(2)
    return torch.randn(config.vocab_size, config.hidden_size, generator=generator).to(DTYPE)


def made_up_tokens(encoder: TruncatedTextEncoder) -> torch.Tensor:
    """A prompt of full length."""
    config: Any = encoder.model.config
    generator = torch.Generator().manual_seed(0)
    most = min(1000, int(config.vocab_size))
    return torch.randint(0, most, (1, MAX_PROMPT_TOKENS), generator=generator)


def _host(encoder: TruncatedTextEncoder, place: Place) -> HostNetwork:
    """As the engine has it: packed layer by layer, the table in RAM."""
    weights = RandomWeights("bf16", place.device)
    modules = tuple(layers_of(encoder))
    blocks: list[RamBlock] = []
    for index, layer in enumerate(modules):
        weights.fill(layer, f"model.layers.{index}.")
        blocks.append(packed_block(ModuleTensors(layer), place.host_buffer))
    weights.fill(encoder, without=modules)
    restore_computed_buffers(encoder)
    encoder.table = made_up_table(encoder)
    rest = packed_block(ModuleTensors(encoder, without=modules), place.host_buffer)
    return HostNetwork(
        name=TEXT_ENCODER, network=encoder, rest=rest, blocks=tuple(blocks), modules=modules
    )


def _residence(host: HostNetwork, place: Place) -> Residence:
    sizes = [block.layout.size_bytes for block in host.blocks]
    slots_bytes = SLOTS * least_slots_bytes(sizes)
    residence = Residence(host, place.transfers)
    residence.follow(
        ComponentPlan(
            name=TEXT_ENCODER,
            precision=Precision.BF16,
            placement=Placement.STREAMED,
            weights_bytes=host.size_bytes,
            device_bytes=host.rest.layout.size_bytes + slots_bytes,
            streamed_blocks=tuple(range(len(sizes))),
            slots_bytes=slots_bytes,
        )
    )
    return residence


def _hidden(encoder: Any, tokens: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - untyped library
    found: torch.Tensor = encoder(tokens, torch.ones_like(tokens)).hidden_states[-1]
    return found


def _quickest(
    encoder: TruncatedTextEncoder, tokens: torch.Tensor, place: Place, tries: int
) -> tuple[float, str]:
    return _quickest_of(lambda: _hidden(encoder, tokens), place, tries)


def _quickest_of(work: Callable[[], torch.Tensor], place: Place, tries: int) -> tuple[float, str]:
    # Other programs take turns with this one, and a GPU's time is not this process's.
    clock_s = time.process_time if place.device.type == "cpu" else time.perf_counter
    taken_s: list[float] = []
    result = work()
    place.synchronize()
    place.transfers.take_times()
    for _ in range(tries):
        began_s = clock_s()
        result = work()
        place.synchronize()
        taken_s.append(clock_s() - began_s)
    return min(taken_s), digest_of(result)

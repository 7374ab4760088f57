"""Loading a model folder into one of diffusers' FLUX.2 pipelines."""

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from app.core.errors import AppError, ModelError
from app.core.policy import Precision
from app.engine.cancel import CancelRequestedError
from app.engine.devices import run_dtype
from app.engine.embedding_cache import EmbeddingCache
from app.engine.foreign_weights import foreign_of, tried_precision
from app.engine.libraries import diffusers_class
from app.engine.model_components import DEV, KLEIN, ModelFamily
from app.engine.model_folder import ModelInfo, stored_dtypes
from app.engine.network_files import (
    Opening,
    open_text_encoder,
    open_transformer,
    refuse_missing,
)
from app.engine.out_of_memory import is_out_of_memory
from app.engine.quantize.converting import Conversion
from app.engine.quantize.linear import try_ways
from app.engine.quantize.ways import way_of
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.host_store import HostStore, Missing
from app.engine.text_encoding import load_tokenizer

log = logging.getLogger(__name__)

ModelKey = tuple[str, tuple[tuple[str, int, int], ...]]


@dataclass(slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A model in memory, ready to run.

    Attributes:
        key: What was loaded; see `model_key`.
        info: About the folder.
        pipeline: Flux2KleinPipeline or Flux2Pipeline of diffusers.
        dtypes: Of the weights, by folder; of what is not quantized, where most is.
        quantized: Precision of the components that are quantized, by folder.
        products: How weights in 8 bits are multiplied, by folder; see `Way`.
        hosts: The computer's side of the text encoder and the transformer, by component.
        embeddings: Of prompts it has encoded.
        preview_matrix: See `app.engine.preview`; None until the first preview is wanted.
    """

    key: ModelKey
    info: ModelInfo
    pipeline: Any
    dtypes: Mapping[str, torch.dtype]
    quantized: Mapping[str, Precision]
    hosts: Mapping[str, HostNetwork]
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)
    preview_matrix: torch.Tensor | None = None
    products: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def precisions(self) -> tuple[str, ...]:
        """What pictures depend on of how the weights are kept, for each component."""
        found: list[str] = []
        for name, dtype in self.dtypes.items():
            words = [self.quantized[name].value] if name in self.quantized else []
            product = [self.products[name]] if name in self.products else []
            found.append(" ".join([*words, str(dtype), *product]))
        return tuple(found)

    def compare_mapped(self, name: str, check: Callable[[], None]) -> None:
        """Have the weights of a component compared with their checksums before their first use.

        Args:
            name: Of the component.
            check: Called between stretches; may raise to stop.

        Raises:
            DamagedFileError: They are something else.
        """
        mapped = self.hosts[name].mapped
        if mapped is not None:
            mapped.compare(check)


def model_key(folder: Path) -> ModelKey:
    """The folder with names, times and sizes of its files: the same key means the same model.

    A folder that cannot be read has no files here; what is wrong with it `inspect_model_folder`
    says better.
    """
    files: list[tuple[str, int, int]] = []
    # ValueError: a path with a zero byte.
    with contextlib.suppress(OSError, ValueError):
        # Not deeper: a model has no more, and the folder may turn out to be a whole disk.
        for path in sorted((*folder.glob("*"), *folder.glob("*/*"))):
            if path.is_file():
                stat = path.stat()
                files.append((str(path.relative_to(folder)), stat.st_mtime_ns, stat.st_size))
    return str(folder), tuple(files)


def load_model(
    info: ModelInfo,
    key: ModelKey,
    device: torch.device,
    check: Callable[[], None],
    *,
    dtypes: Mapping[str, torch.dtype] | None = None,
    conversions: Mapping[str, Conversion] | None = None,
    store: HostStore | None = None,
    file_blocks: Mapping[str, Collection[int]] | None = None,
    progress: Callable[[int], None] = lambda _bytes: None,
    needs_text_encoder: bool = True,
) -> LoadedModel:
    """Read all components into RAM and put the pipeline together.

    Args:
        info: From `inspect_model_folder`, which has checked the folder.
        key: Of the folder.
        device: That will run it, for the precision; `app.engine.placement` brings it there.
        check: Called between components and between pieces of them; may raise to stop the loading.
        dtypes: Of the weights, by folder; None is what the device runs stored weights in.
        conversions: Of the components that are quantized, by folder.
        store: Where the weights are to be; None has them where the CPU computes with them. With a
            store for another device the networks stay on "meta" until they are lent to it.
        file_blocks: Blocks that are to stay on the disk, by component.
        progress: Told how many bytes more are loaded.
        needs_text_encoder: Whether it is loaded, too; `load_text_encoder` does it later.

    Raises:
        ModelError: A component cannot be loaded.
    """
    if dtypes is None:
        dtypes = {
            name: run_dtype(device, getattr(torch, stored))
            for name, stored in stored_dtypes(info.folder).items()
        }
    store = store or HostStore(in_place=True)
    layout = KLEIN if info.family is ModelFamily.KLEIN else DEV
    conversions = conversions or {}
    hosts: dict[str, HostNetwork] = {}

    def open_network(name: str, opener: Callable[[ModelInfo, Opening], HostNetwork]) -> Any:  # noqa: ANN401
        opening = Opening(
            store=store,
            dtype=dtypes[name],
            conversion=conversions.get(name),
            file_blocks=frozenset((file_blocks or {}).get(name, ())),
            check=check,
            progress=progress,
        )
        hosts[name] = opener(info, opening)
        return hosts[name].network

    steps: dict[str, Callable[[], Any]] = {
        "scheduler": lambda: _load_scheduler(info.folder),
        "tokenizer": lambda: load_tokenizer(info),
        "text_encoder": lambda: open_network("text_encoder", open_text_encoder),
        "transformer": lambda: open_network("transformer", open_transformer),
        "vae": lambda: _load_autoencoder(info.folder / "vae", dtypes["vae"]),
    }
    components: dict[str, Any] = {}
    if not needs_text_encoder:
        del steps["text_encoder"]
        components["text_encoder"] = None
    for name, load in steps.items():
        check()
        components[name] = _named(load, info.folder / name)
    check()
    if info.family is ModelFamily.KLEIN:
        components["is_distilled"] = info.distilled
    pipeline = diffusers_class(layout.pipeline_class)(**components)
    pipeline.set_progress_bar_config(disable=True)
    for name, host in hosts.items():
        try_ways(host.network, device, dtypes[name])
    # While the device is empty, and what runs at each step before what runs once.
    store.pin([hosts[name] for name in ("transformer", "text_encoder") if name in hosts], check)
    return LoadedModel(
        key=key,
        info=info,
        pipeline=pipeline,
        dtypes=dtypes,
        quantized={name: found.recipe.precision for name, found in conversions.items()},
        hosts=hosts,
        products=_products(info, conversions, device, dtypes),
    )


def _products(
    info: ModelInfo,
    conversions: Mapping[str, Conversion],
    device: torch.device,
    dtypes: Mapping[str, torch.dtype],
) -> dict[str, str]:
    """How the components in 8 bits are multiplied, those too that are read later."""
    found: dict[str, str] = {}
    for name in ("text_encoder", "transformer"):
        foreign, conversion = foreign_of(info.foreign, name), conversions.get(name)
        if foreign is None and conversion is None:
            continue
        precision = tried_precision(None if conversion is None else conversion.recipe, foreign)
        found[name] = way_of(precision, device, dtypes[name]).value
    return found


def load_text_encoder(
    model: LoadedModel,
    device: torch.device,
    check: Callable[[], None],
    *,
    conversion: Conversion | None = None,
    store: HostStore | None = None,
    file_blocks: Collection[int] = (),
    progress: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Read the text encoder of a model that is loaded without it.

    Args:
        model: Has it afterwards.
        device: As for `load_model`.
        check: As for `load_model`.
        conversion: When it is quantized.
        store: As for `load_model`.
        file_blocks: Blocks that are to stay on the disk.
        progress: As for `load_model`.

    Raises:
        ModelError: It cannot be loaded.
    """
    name = "text_encoder"
    store = store or HostStore(in_place=True)
    opening = Opening(
        store=store,
        dtype=model.dtypes[name],
        conversion=conversion,
        file_blocks=frozenset(file_blocks),
        check=check,
        progress=progress,
    )
    host = _named(lambda: open_text_encoder(model.info, opening), model.info.folder / name)
    # With the transformer there already, but not yet the weights that are about to run.
    try_ways(host.network, device, model.dtypes[name])
    store.pin([host], check)
    model.hosts = {**model.hosts, name: host}
    model.pipeline.text_encoder = host.network


def networks(pipeline: Any) -> dict[str, Any]:  # noqa: ANN401 - a pipeline of diffusers
    """The networks of a pipeline by component, as plans name them; those that are loaded."""
    found = {
        "text_encoder": pipeline.text_encoder,
        "transformer": pipeline.transformer,
        "autoencoder": pipeline.vae,
    }
    return {name: network for name, network in found.items() if network is not None}


class _SchedulerIndex(msgspec.Struct, frozen=True):
    scheduler: tuple[str, str]


def _load_scheduler(folder: Path) -> Any:  # noqa: ANN401 - untyped library
    index = msgspec.json.decode((folder / "model_index.json").read_bytes(), type=_SchedulerIndex)
    return diffusers_class(index.scheduler[1]).from_pretrained(
        str(folder / "scheduler"), local_files_only=True
    )


def _load_autoencoder(folder: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401
    network, report = diffusers_class("AutoencoderKLFlux2").from_pretrained(
        str(folder),
        local_files_only=True,
        # Pickled weights can run any program when they are opened.
        use_safetensors=True,
        output_loading_info=True,
        torch_dtype=dtype,
    )
    # The library fills what is missing with random numbers and only warns.
    wrong = (str(entry[0]) for entry in report.get("mismatched_keys") or ())
    refuse_missing(
        folder,
        Missing(
            absent=tuple(sorted(report["missing_keys"])), of_another_shape=tuple(sorted(wrong))
        ),
    )
    return network.eval()


def _named(load: Callable[[], Any], folder: Path) -> Any:  # noqa: ANN401 - untyped library
    """What `load` gives; errors of the libraries are told as one of ours that names the folder."""
    try:
        return load()
    except (AppError, CancelRequestedError):
        raise
    # The libraries raise whatever they meet: OSError, ValueError, KeyError, SafetensorError.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        log.exception("%s cannot be loaded", folder)
        raise ModelError(
            f"The model's {folder.name} in {folder} cannot be loaded: "
            "download this folder again from the model's source, unchanged.",
            code="model.load_failed",
            details=f"{type(error).__name__}: {error}",
        ) from error

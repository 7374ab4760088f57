"""The classes of diffusers and transformers the engine uses, and how quiet those are.

Imported only when a model is loaded: they take seconds. What comes out of them is untyped, and
stays so within the engine's torch modules.
"""

import importlib
import logging
import os
from typing import Any


def go_offline() -> None:
    """Keep the Hugging Face libraries off the network; only works before they are imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DISABLE_TELEMETRY"] = "1"
    # Our reader thread and the tokenizers' own threads do not mix with forking.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def quieten() -> None:
    """Send what the libraries have to say to our log, and draw no progress bars."""
    logging.captureWarnings(capture=True)
    for name in ("diffusers.utils.logging", "transformers.utils.logging"):
        library: Any = importlib.import_module(name)
        library.disable_default_handler()
        library.enable_propagation()
        library.set_verbosity_warning()
        library.disable_progress_bar()


def diffusers_class(name: str) -> Any:  # noqa: ANN401 - untyped library
    """A class diffusers exports, such as "Flux2KleinPipeline"; only its own module is imported."""
    diffusers: Any = importlib.import_module("diffusers")
    return getattr(diffusers, name)


def transformers_class(name: str) -> Any:  # noqa: ANN401 - untyped library
    """A class transformers exports, such as "Qwen3ForCausalLM"."""
    transformers: Any = importlib.import_module("transformers")
    return getattr(transformers, name)

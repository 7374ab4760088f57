"""What `models` may be asked."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsArguments:
    """What is to be removed of what is kept.

    Attributes:
        remove_converted: Name of a model or file, "all", or None.
        clear_prompts: Whether kept prompts go.
    """

    remove_converted: str | None
    clear_prompts: bool

    @property
    def removes(self) -> bool:
        """Whether anything is to be removed; else models are listed."""
        return self.remove_converted is not None or self.clear_prompts


def add_models(parser: argparse.ArgumentParser) -> None:
    """The options of `models`."""
    parser.add_argument(
        "--remove-converted",
        metavar="NAME",
        help="instead, remove the converted weights of a model, or one such file, or all",
    )
    parser.add_argument(
        "--clear-prompts", action="store_true", help="instead, remove all kept prompts"
    )


def models_arguments(found: argparse.Namespace) -> ModelsArguments:
    """What was typed."""
    return ModelsArguments(
        remove_converted=found.remove_converted, clear_prompts=found.clear_prompts
    )

"""A network with quantized layers that hold no weights yet: what converted files open into."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from app.engine.quantize.linear import QuantizedLinear, empty_linear, quantize_linear
from app.engine.quantize.recipe import Recipe


def named_modules(network: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """A network's modules by name; torch's own function has no types."""
    untyped: Any = network
    found: Iterable[tuple[str, nn.Module]] = untyped.named_modules()
    return found


def quantizable(name: str, module: nn.Module, recipe: Recipe) -> bool:
    """Whether a recipe covers a layer of a network."""
    return isinstance(module, nn.Linear) and recipe.covers(
        name, module.in_features, module.out_features
    )


def quantized_skeleton(network: nn.Module, recipe: Recipe) -> dict[str, QuantizedLinear]:
    """Put empty quantized layers in the place of those that a recipe covers.

    Args:
        network: Usually on "meta"; changed.
        recipe: For this component.

    Returns:
        The new layers by name.
    """
    chosen = [
        (name, module)
        for name, module in named_modules(network)
        if isinstance(module, nn.Linear) and quantizable(name, module, recipe)
    ]
    made: dict[str, QuantizedLinear] = {}
    for name, linear in chosen:
        parent, _, attribute = name.rpartition(".")
        made[name] = empty_linear(linear, recipe)
        setattr(network.get_submodule(parent), attribute, made[name])
    return made


def quantize_network(network: nn.Module, recipe: Recipe) -> None:
    """Quantize a network where it is, layer by layer; never two copies of more than one.

    Args:
        network: Changed.
        recipe: For this component.
    """
    chosen = [name for name, module in named_modules(network) if quantizable(name, module, recipe)]
    for name in chosen:
        parent, _, attribute = name.rpartition(".")
        owner = network.get_submodule(parent)
        setattr(owner, attribute, quantize_linear(getattr(owner, attribute), recipe.precision))

"""The weight matrices inside a model, between its inputs and its outputs, which Muon updates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from sgp_core.training.compiling import blocks


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the matrices that map hidden features to hidden features, ``[out, in]`` each, trainable ones alone.

    Those are the weights of ``nn.Linear`` and the joint projection of ``nn.MultiheadAttention``, but not the matrix of
    an embedding, even where a linear layer shares it, and not the output layer: the last ``nn.Linear`` outside of the
    model's blocks (layers of a transformer and the like). A model that knows better says so: where it has a method
    ``hidden_matrices()``, its parameters are taken.
    """
    own = getattr(model, "hidden_matrices", None)
    candidates: Iterable[nn.Parameter] = own() if callable(own) else _matrices(model)
    found = {id(parameter): parameter for parameter in candidates if parameter.requires_grad}
    return list(found.values())


def _matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    left_out = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding | nn.EmbeddingBag)}
    in_blocks = {id(module) for block in blocks(model) for module in block.modules()}
    outside = [each for each in model.modules() if isinstance(each, nn.Linear) and id(each) not in in_blocks]
    left_out |= {id(each.weight) for each in outside[-1:]}
    for module in model.modules():
        name = "weight" if isinstance(module, nn.Linear) else "in_proj_weight"
        weight = module._parameters.get(name) if isinstance(module, nn.Linear | nn.MultiheadAttention) else None
        if weight is not None and id(weight) not in left_out:
            yield weight

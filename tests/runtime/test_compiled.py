"""torch.compile: mixing traces whole, and models compiled by blocks or as a whole train the same."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sgp_core
from sgp_core.tensors.mixing import mix_all_
from tests.workers.agreement import batch, flatten, make_model, make_optimizer


@pytest.mark.parametrize("weights", [(0.5, [0.5]), (1 / 3, [1 / 3, 1 / 3]), (1.0, [0.25]), (0.75, [])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mixing_traces_whole(weights: tuple[float, list[float]], dtype: torch.dtype):
    torch._dynamo.reset()  # each case is the first
    own, shares = weights

    def mixed(x: Tensor, *received: Tensor) -> Tensor:
        mix_all_(x, own, received, shares)
        return x

    vectors = [torch.randn(200, generator=torch.Generator().manual_seed(n)).to(dtype) for n in range(1 + len(shares))]
    compiled = torch.compile(mixed, backend="aot_eager", fullgraph=True)
    found, expected = (act(*(vector.clone() for vector in vectors)) for act in (compiled, mixed))
    torch.testing.assert_close(found, expected)


def _trained(how: str, **options: Any) -> Tensor:
    model = make_model()
    if how == "blocks":
        for block in model:
            block.compile(backend="eager")
    elif how == "whole":
        model.compile(backend="eager")
    optimizer = make_optimizer(model.parameters())
    algorithm = sgp_core.build_algorithm("osgp", **({"order": "atc"} if options else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, **options)
    for step in range(10):
        inputs, targets = batch(0, step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    gossip.close()
    return flatten(model)


@pytest.mark.parametrize("how", ["blocks", "whole"])
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_models_train_the_same(how: str, inside: bool):
    assert torch.equal(_trained(how, **({"step_in_backward": True} if inside else {})), _trained("not"))

"""After ``gossip.close()`` the model and the optimizer are the user's alone again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import sgp_core
from sgp_core.algorithms import Algorithm, Traits, Worker


@dataclass(frozen=True)
class CountsGradients(Algorithm):
    """A rule that changes gradients, like ``allreduce`` and gradient tracking."""

    traits: ClassVar[Traits] = Traits(reads_gradients=True)
    calls: ClassVar[list[int]] = []

    def on_gradients(self, worker: Worker) -> None:
        self.calls.append(worker.step)


def test_closing_removes_the_hooks_on_gradients_and_on_the_optimizer() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=CountsGradients())
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert CountsGradients.calls == [0, 1]

    gossip.close()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert CountsGradients.calls == [0, 1]
    assert gossip.step == 2


def test_a_trait_declared_as_a_class_variable_is_refused() -> None:
    with pytest.raises(TypeError, match=r"OldRule.sends_weight is a trait; declare traits = Traits\(sends_weight="):
        type("OldRule", (Algorithm,), {"sends_weight": True})

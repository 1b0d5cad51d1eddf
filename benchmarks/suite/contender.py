"""What every contender of a benchmark is: a model, its optimizer, and a way of keeping workers together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module], Tensor]


class Contender:
    """A model and its optimizer, and no communication: what others add to.

    Args:
        model: any module; the contender may wrap it and move its parameters.
        lr: of the plain SGD that all contenders use.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        self.model = model
        self.size = sum(p.numel() * p.element_size() for p in model.parameters())
        self.steps = 0
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(self, loss: Loss) -> None:
        """Take one training step."""
        loss(self.model).backward()
        self.optimizer.step()
        self.exchange()
        self.optimizer.zero_grad()
        self.steps += 1

    def exchange(self) -> None:
        """Communicate after the optimizer's step."""

    def settle(self) -> None:
        """Wait for what is under way, so that it does not disturb the next contender."""

    @property
    def bytes_sent(self) -> float:
        """Bytes this worker has sent so far (an AllReduce counts as a ring's)."""
        return 0.0

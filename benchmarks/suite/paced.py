"""A real training problem whose computation takes a set time and whose model has a set size.

The digits and a network of one hidden layer; beside its 9,610 parameters the model has blocks of padding that take
part in everything but the result: they have gradients (zeros), are updated, and travel. Computation is emulated by
sleeping, in every block's forward and, twice as long, in its backward, so that gradients become ready one block after
the other and an algorithm that sends them during backward can. What is really computed is short, and counts as part
of the time.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

BLOCKS = 10
_FORWARD = 1 / 3
"""Share of a step's computation that is forward."""


class Clock:
    """Says until when the computation of each part of a step lasts."""

    def __init__(self, compute_s: float) -> None:
        self._compute_s = compute_s
        self.start()

    def start(self) -> None:
        """A step begins, with its forward."""
        self._began, self._part = time.perf_counter(), 0

    def next_part(self) -> None:
        """Sleep until the end of the next part: ``BLOCKS`` of forward, then as many of backward."""
        self._part += 1
        forward, backward = min(self._part, BLOCKS), max(self._part - BLOCKS, 0)
        share = (_FORWARD * forward + (1 - _FORWARD) * backward) / BLOCKS
        time.sleep(max(0.0, self._began + share * self._compute_s - time.perf_counter()))


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: Tensor, clock: Clock) -> Tensor:
        ctx.clock, ctx.size = clock, padding.numel()
        clock.next_part()
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.clock.next_part()
        return gradients[0], gradients[0].new_zeros(ctx.size), None


class PacedModel(nn.Module):
    """The network behind its padding.

    Args:
        parameters: in all.
        clock: what makes it as slow as it should be.
    """

    def __init__(self, parameters: int, clock: Clock) -> None:
        super().__init__()
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        size = (parameters - sum(p.numel() for p in net.parameters())) // BLOCKS
        self.padding = nn.ParameterList(nn.Parameter(torch.zeros(size)) for _ in range(BLOCKS))
        self.net = net
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, 10]`` of images ``[B, 64]``, in the time it should take."""
        for padding in self.padding:
            x = _Part.apply(x, padding, self.clock)
        return self.net(x)


class Problem:
    """One worker's share of the digits, in an order of its own, and the validation loss of its model.

    Args:
        rank: which share.
        world_size: of how many.
        batch: examples a step and worker.

    Attributes:
        examples: the images of the share, ``[N, 64]``, and their labels.
        validation: those of all workers.
    """

    def __init__(self, rank: int, world_size: int, batch: int) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (torch.tensor(digits.data, dtype=torch.float32) / 16 - 0.305) / 0.376
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        images, labels = images[order], torch.tensor(digits.target)[order]
        self.validation = images[:360], labels[:360]
        self.examples = images[360 + rank :: world_size], labels[360 + rank :: world_size]
        self._batch = batch
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Shuffle anew."""
        self._random = torch.Generator().manual_seed(seed)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next images, ``[B, 64]``, and their labels."""
        images, labels = self.examples
        chosen = torch.randint(len(images), (self._batch,), generator=self._random)
        return images[chosen], labels[chosen]

    def loss(self, model: nn.Module) -> Tensor:
        """Return the loss of the next batch."""
        images, labels = self.batch()
        return nn.functional.cross_entropy(model(images), labels)

    @torch.no_grad()
    def validation_loss(self, model: PacedModel) -> float:
        """Return the loss of the validation images; takes no emulated time."""
        images, labels = self.validation
        return float(nn.functional.cross_entropy(model.net(images), labels))

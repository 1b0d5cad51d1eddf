"""What a simulated run leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
Gradient = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Trajectory:
    """What happened, including the start: entry 0 is before the first step.

    Attributes:
        steps: optimizer steps completed at each record, ``[r]``.
        z: de-biased models, ``[r, n, d]``.
        w: PushSum weights, ``[r, n]``, float64.
        x_in_flight: the sum of the numerators that have been sent and not yet added, ``[r, d]``.
        w_in_flight: the sum of their weights, ``[r]``, float64.
        bytes_sent: by the mean worker until the end, codes counted as what they stand for; None of an asynchronous run.
        estimates: with a pace that measures, the steps it did and the consensus distance it found.
    """

    steps: Tensor
    z: Tensor
    w: Tensor
    x_in_flight: Tensor
    w_in_flight: Tensor
    estimates: tuple[tuple[int, float], ...] = ()
    bytes_sent: float | None = None

    @property
    def x(self) -> Tensor:
        """Numerators ``w z``, ``[r, n, d]``."""
        return self.w.to(self.z.dtype).unsqueeze(-1) * self.z

    @property
    def mean(self) -> Tensor:
        """The network-wide average ``sum_i x_i / sum_i w_i``, messages in flight included, ``[r, d]``."""
        w = self.w.sum(1) + self.w_in_flight
        return (self.x.sum(1) + self.x_in_flight) / w.unsqueeze(1).to(self.z.dtype)

    @property
    def consensus_distance(self) -> Tensor:
        """``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``, ``[r]``."""
        z_bar = self.z.mean(1, keepdim=True)
        spread = (self.z - z_bar).square().sum(-1).mean(1).sqrt()
        return spread / z_bar.squeeze(1).norm(dim=-1)

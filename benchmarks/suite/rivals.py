"""Other ways of keeping workers together: the least that can be done, torch's own, and other libraries."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from suite.contender import Contender, Loss

_CHUNK = 1 << 20
"""Elements the bare exchange sends at a time: 4 MB, as ``p2p`` does."""


class InPlaceAverage(Contender):
    """What averaging with a model in the same memory cannot go below: two reads and a write, without waiting."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        parameters = list(model.parameters())
        flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        for parameter, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.data = piece.view_as(parameter)
        self.pieces = list(zip(flat.split(_CHUNK), flat.clone().split(_CHUNK), strict=True))

    @torch.no_grad()
    def exchange(self) -> None:
        for mine, other in self.pieces:
            mine.lerp_(other, 0.5)


class BareExchange(InPlaceAverage):
    """What one-peer gossip cannot go below over gloo: receives posted first, the model sent as it lies, one pass.

    Written by hand for this one case: the peers of the one-peer exponential graph, half and half.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.offsets = [1 << k for k in range(max(1, (self.world_size - 1).bit_length()))]

    @torch.no_grad()
    def exchange(self) -> None:
        offset = self.offsets[self.steps % len(self.offsets)]
        source, target = (self.rank - offset) % self.world_size, (self.rank + offset) % self.world_size
        receives = [dist.irecv(inbox, source) for _, inbox in self.pieces]
        sends = [dist.isend(mine, target) for mine, _ in self.pieces]
        for (mine, inbox), receive, send in zip(self.pieces, receives, sends, strict=True):
            receive.wait()  # type: ignore[union-attr]
            send.wait()  # type: ignore[union-attr]
            mine.lerp_(inbox, 0.5)

    @property
    def bytes_sent(self) -> float:
        return float(self.steps * self.size)


class TorchDDP(Contender):
    """DistributedDataParallel at its quickest: gradients live in its buckets, buffers stay each worker's own."""

    def __init__(self, model: nn.Module, lr: float = 0.01, *, bf16: bool = False, bucket_mb: float = 25) -> None:
        super().__init__(model, lr)
        self.sent = (0.5 if bf16 else 1.0) * self.size * _ring(dist.get_world_size())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the newer name does not exist in torch 2.9
            self.model = DistributedDataParallel(
                model, gradient_as_bucket_view=True, broadcast_buffers=False, bucket_cap_mb=bucket_mb
            )
        if bf16:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            self.model.register_comm_hook(None, bf16_compress_hook)

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.sent


class PeriodicAverage(Contender):
    """torch's PeriodicModelAverager after every step."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it recommends DDP
            self.averager = PeriodicModelAverager(period=1)

    def exchange(self) -> None:
        self.averager.average_parameters(self.model.parameters())

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.size * _ring(dist.get_world_size())


class DecentDP(Contender):
    """Decent-DP from PyPI, on its own one-peer exponential graph; it steps inside backward and overlaps by itself."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model, lr)
        from decent_dp.ddp import DecentralizedDataParallel
        from loguru import logger

        logger.disable("decent_dp")
        self.wrapped = self.model = DecentralizedDataParallel(
            model,
            optim_fn=lambda named: torch.optim.SGD([parameter for _, parameter in named], lr=lr),
            topology="one-peer-exp",
            _local_world_size=1,
        )

    def step(self, loss: Loss) -> None:
        self.model.zero_grad()
        loss(self.model).backward()
        self.steps += 1

    def settle(self) -> None:
        for work in self.wrapped._comm_ops:
            if work is not None:
                work.wait()

    @property
    def bytes_sent(self) -> float:
        return self.steps * self.size * _ring(2)


def _ring(n: int) -> float:
    """Return what a worker sends in a ring AllReduce over ``n``, in vectors."""
    return 2 * (n - 1) / n

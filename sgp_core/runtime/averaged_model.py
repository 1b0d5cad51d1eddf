"""The average over all workers in the place of a worker's own model, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.distributed.model_shard import ModelShard, is_sharded
from sgp_core.distributed.waits import Waits
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.runtime.worker_state import WorkerState


@contextmanager
def averaged_model(
    model: nn.Module,
    shard: ModelShard,
    worker: WorkerState,
    network: WorkerNetwork,
    workers: GlobalCollectives,
    waits: Waits,
) -> Iterator[None]:
    """Inside the block, ``model`` holds ``sum_i x_i / n`` and the average of all workers' buffers. Collective.

    On exit the worker's own parameters, weight, buffers and messages in flight are restored bit for bit. Nothing that
    is sent here counts among the bytes and seconds of training.
    """
    shard.collect()
    own, weight = shard.keep(), worker.weight
    with waits.inside_drain("averaged()"):
        put_back = network.keep_in_flight()
    buffers = list(model.buffers())
    own_buffers = [buffer.clone() for buffer in buffers]
    worker.averaged = False
    try:
        with waits.inside("averaged()"), torch.no_grad(), network.uncounted(), workers.uncounted():
            workers.average_model(worker)
            shard.spread()
            workers.average_buffers(buffers)
        yield
    finally:
        shard.restore(own)
        worker.weight = weight
        put_back()
        with torch.no_grad():
            for buffer, kept in zip(buffers, own_buffers, strict=True):
                buffer.copy_(kept)


@torch.no_grad()
def compact_state_dict(model: nn.Module, device: torch.device | str | None) -> dict[str, Any]:
    """Return a copy of ``model.state_dict()``; tensors that are one (tied parameters) stay one.

    Collective over the workers of a node where FSDP2 has sharded the model.

    Args:
        device: where to put the copies; None: where the tensors are.
    """
    copies: dict[int, Tensor] = {}  # by the module's own tensor: a state dict detaches it once for each of its names
    names = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }

    def copy(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        key = id(names.get(name, value))
        if key not in copies:
            whole: Tensor = value.full_tensor() if is_sharded(value) else value  # type: ignore[attr-defined]
            copies[key] = whole.detach().to(device=device, copy=True)
        return copies[key]

    return {name: copy(name, value) for name, value in model.state_dict().items()}

"""The state of optimizers as plain tensors and numbers, which ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgp_core.distributed.model_shard import is_sharded, local_tensor


@torch.no_grad()
def plain(value: Any) -> Any:
    """Return nested dicts, lists and tuples with plain values in them.

    Of DTensors it takes this worker's part, and numpy's numbers become Python's.
    """
    if isinstance(value, Tensor):
        return local_tensor(value).detach()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(plain(item) for item in value)
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


@torch.no_grad()
def load_plain(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what :func:`plain` has made of ``optimizer.state_dict()``."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        if not is_sharded(parameter):
            continue
        from torch.distributed.tensor import DTensor

        mine = local_tensor(parameter)
        for name, value in values.items():
            if isinstance(value, Tensor) and not is_sharded(value) and value.shape == mine.shape and value.dim():
                values[name] = DTensor.from_local(
                    value,
                    parameter.device_mesh,  # type: ignore[attr-defined]
                    parameter.placements,  # type: ignore[attr-defined]
                    run_check=False,
                    shape=parameter.shape,
                    stride=parameter.stride(),
                )

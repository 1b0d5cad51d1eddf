"""The random number generators of a worker, saved and restored with it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def keep_random_states() -> dict[str, Any]:
    """Return the states of the generators of Python, numpy and torch, in types that load with ``weights_only``."""
    name, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()  # of this worker's device
    return state


def restore_random_states(state: dict[str, Any]) -> None:
    """Continue from :func:`keep_random_states`."""
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])

"""Every random number is a function of (seed, rank, step): resuming needs no generator state and is bit-exact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part; unrelated for unequal parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def data_generator(seed: int, rank: int, step: int) -> torch.Generator:
    """Return the generator of every random number in the batch of ``step`` (augmentation)."""
    return torch.Generator().manual_seed(derived_seed(seed, "data", rank, step))


def seed_model(seed: int, rank: int, step: int, device: torch.device) -> None:
    """Seed what draws from torch's own generators in ``step`` (dropout).

    Only the generators in use are seeded: ``torch.manual_seed`` visits every kind of device, which takes longer than
    a small step and, for devices that are never started, remembers every call.
    """
    model_seed = derived_seed(seed, "model", rank, step)
    torch.default_generator.manual_seed(model_seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(model_seed)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Use only deterministic kernels inside; the previous choice is restored."""
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for this; read when CUDA starts
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms(True) would also import torch.compile
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]

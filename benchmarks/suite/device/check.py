"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Place:
    """Where a check runs: one of ``size`` processes, each with its GPU, or with its share of one."""

    rank: int
    size: int
    device: torch.device
    gpus: int
    """GPUs this machine shows; fewer than ``size``: several processes take turns on each."""


@dataclass(frozen=True)
class Found:
    """What one process has found.

    Attributes:
        problem: what is wrong; empty if nothing is.
        said: what is worth a look in any case, in a few words.
        figures: numbers for the JSON file.
    """

    problem: str = ""
    said: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A named question, asked in ``workers`` processes at once.

    Attributes:
        group: the backend of their process group; empty for none.
    """

    name: str
    act: Callable[[Place], Found]
    workers: int = 1
    group: str = ""


def at_most(limit: float, **measured: float) -> str:
    """Return what is wrong if a number is larger than ``limit``, or is none."""
    return "; ".join(
        f"{name} {value:.3g}, more than {limit:g}" for name, value in measured.items() if not value <= limit
    )

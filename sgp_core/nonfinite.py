"""Numbers that are not finite: what a run does about them, and the error that says where they began.

Imports without torch: the launcher reads the choice before any worker exists.
"""

from __future__ import annotations

from enum import StrEnum


class Nonfinite(StrEnum):
    """What happens when a loss or a gradient is not finite."""

    stop = "stop"
    """The worker raises before it sends anything of it."""
    skip = "skip"
    """The step is skipped on all workers: none of them updates its model."""


class NotFinite(ArithmeticError):
    """A number that is nan or infinite began on this worker, which has sent nothing of it.

    Attributes:
        rank: the worker.
        step: the optimizer step, from 1.
        tensor: what is not finite, such as ``gradient of layer.weight``.
    """

    def __init__(self, message: str, *, rank: int, step: int, tensor: str) -> None:
        super().__init__(message)
        self.rank = rank
        self.step = step
        self.tensor = tensor

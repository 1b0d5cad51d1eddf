"""Companions of training: blocks that it goes on inside, such as those in which faults strike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from sgp_core.training.callbacks import TrainingProgress

Companion = Callable[[TrainingProgress], AbstractContextManager[object]]
"""Returns the block, once everything is assembled. What it is told counts no steps: ask ``gossip.step``."""


@contextmanager
def accompany(companions: Sequence[Companion], progress: TrainingProgress) -> Iterator[None]:
    """Be inside the blocks of all companions, the first of them outermost."""
    with ExitStack() as held:
        for companion in companions:
            held.enter_context(companion(progress))
        yield

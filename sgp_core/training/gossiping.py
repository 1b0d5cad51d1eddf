"""What the training loop asks of the workers that gossip: of one process of many, or of all virtual workers in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sgp_core.distributed.waits import Waits
from sgp_core.runtime.events import Staleness
from sgp_core.timeline import Timeline


class GossipingWorkers(Protocol):
    """The part of :class:`sgp_core.Gossip` that the training loop uses, with the meaning that it has there."""

    inherited: dict[str, Any] | None

    @property
    def rank(self) -> int:
        """Of the worker that rows are about."""

    @property
    def step(self) -> int:
        """Steps completed."""

    @property
    def asynchronous(self) -> bool:
        """Whether each worker steps at its own pace."""

    @property
    def skipped_steps(self) -> int:
        """Steps that were skipped, because a gradient was not finite."""

    @property
    def push_sum_weight(self) -> float:
        """The PushSum weight of that worker."""

    @property
    def bytes_sent(self) -> int:
        """What that worker has sent to other nodes."""

    @property
    def communication_seconds(self) -> float:
        """Seconds of this process in communication and mixing."""

    @property
    def staleness(self) -> Staleness:
        """How old what that worker used was."""

    @property
    def meeting_requested(self) -> bool:
        """Whether a worker has asked all of them to meet."""

    @property
    def waits(self) -> Waits:
        """Where this process waits for others."""

    def record(self, timeline: Timeline | None) -> None:
        """Let a timeline record exchanges."""

    def admit(self, extra: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Let workers in that come."""

    def averaged(self) -> AbstractContextManager[None]:
        """Return a block inside which the model is the average of all workers."""

    def consensus_distance(self) -> float:
        """Return how far workers are from their average."""

    def check_finite(self) -> None:
        """Refuse a model that is not finite."""

    def request_meeting(self) -> None:
        """Ask all workers to meet."""

    def finish(self) -> None:
        """Add what is in flight."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it."""

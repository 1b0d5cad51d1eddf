"""The running sums of what training measures between two rows, and the rows themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sgp_core.tasks.base import Batch
from sgp_core.training.virtual.batches import WorkersBatch


@dataclass
class StalenessSum:
    """The ages, in steps, of what an asynchronous worker used: their number, their sum and the largest of them."""

    count: int = 0
    steps: int = 0
    most: int | None = None

    def add(self, count: int, steps: int, most: int | None) -> None:
        """Count ``count`` ages that sum to ``steps``."""
        self.count += count
        self.steps += steps
        self.most = max((age for age in (self.most, most) if age is not None), default=None)


@dataclass
class Meter:
    """Sums of this worker over the steps since the last row. Times are in seconds of the training thread.

    ``communication`` is the time that the thread spent sending, waiting and mixing; ``compute`` is the rest of the step
    after the batch was ready. There is no barrier: waiting for a slower worker counts as communication.
    """

    steps: int = 0
    losses: int = 0
    """Steps whose loss counts: all but those that were skipped."""
    examples: int = 0
    targets: int = 0
    """Targets of those examples: as many, or many more, such as the tokens of a text."""
    loss: float = 0.0
    data: float = 0.0
    compute: float = 0.0
    communication: float = 0.0
    peak_bytes: int = 0
    """The most bytes that were sent in one step."""
    ages: StalenessSum = field(default_factory=StalenessSum)
    """How old what an asynchronous worker used was."""

    def add(
        self,
        *,
        batch: Batch | WorkersBatch,
        loss: Any,
        data: float,
        compute: float,
        communication: float,
        sent: int = 0,
    ) -> None:
        """Count one step, in which ``sent`` bytes were sent.

        ``loss`` may be a tensor, which only :meth:`averages` reads; None: the step was skipped.
        """
        self.steps += 1
        self.examples += len(batch)
        self.targets += batch.count
        if loss is not None:
            self.losses += 1
            self.loss = self.loss + loss
        self.data += data
        self.compute += compute
        self.communication += communication
        self.peak_bytes = max(self.peak_bytes, sent)

    def averages(self, world_size: int, unit: str | None = None) -> dict[str, float | None]:
        """Return mean loss, global examples per second and mean milliseconds per step; None if nothing was counted.

        Args:
            unit: what targets are, if their rate is to be said, too: ``<unit>_per_s``.
        """
        seconds = self.data + self.compute + self.communication
        steps = self.steps
        rate = {} if unit is None else {f"{unit}_per_s": self.targets * world_size / seconds if seconds else None}
        return {
            "loss": float(self.loss) / self.losses if self.losses else None,
            "samples_per_s": self.examples * world_size / seconds if seconds else None,
            **rate,
            "step_time_ms": 1e3 * seconds / steps if steps else None,
            "data_time_ms": 1e3 * self.data / steps if steps else None,
            "compute_time_ms": 1e3 * self.compute / steps if steps else None,
            "comm_time_ms": 1e3 * self.communication / steps if steps else None,
        }

    def reset(self) -> None:
        """Start the next window."""
        self.load(asdict(Meter()))

    def state(self) -> dict[str, Any]:
        """Return the sums as plain numbers."""
        return {**asdict(self), "loss": float(self.loss)}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        for entry in fields(self):
            if entry.name in state:  # staleness came later
                setattr(self, entry.name, state[entry.name])
        self.losses = state.get("losses", self.steps)
        self.ages = StalenessSum(**state.get("ages", {}))


def row(
    *,
    step: int,
    epoch: float,
    split: str,
    wall_time_s: float,
    virtual_time_s: float | None,
    lr: float,
    measured: dict[str, float | None],
    bytes_sent: int,
    peak_step_bytes: int,
    consensus_distance: float | None,
    push_sum_weights: list[float],
    world_size: int,
    staleness: dict[str, float | None],
) -> dict[str, Any]:
    """Return one line of metrics; None where nothing was measured."""
    return {
        "step": step,
        "epoch": round(epoch, 4),
        "split": split,
        "wall_time_s": round(wall_time_s, 3),
        **({} if virtual_time_s is None else {"virtual_time_s": virtual_time_s}),
        "lr": lr,
        **measured,
        "bytes_sent": bytes_sent,
        "peak_step_bytes": peak_step_bytes,
        "consensus_distance": consensus_distance,
        "push_sum_weight_min": min(push_sum_weights),
        "push_sum_weight_max": max(push_sum_weights),
        **staleness,
        "world_size": world_size,
    }

"""Which steps are followed by rows, evaluations and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.training.config import CheckpointConfig, EvaluationConfig


@dataclass
class DueSteps:
    """What is due after a step: a pure function of the step, so that all workers agree without communication."""

    log_every: int
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    steps_per_epoch: int
    total_steps: int

    def is_last(self, step: int) -> bool:
        """Return whether training ends after ``step``."""
        return step == self.total_steps

    def logs(self, step: int) -> bool:
        """Return whether a training row is due."""
        return _divides(self.log_every, step) or self.is_last(step)

    def measures_distance(self, step: int) -> bool:
        """Return whether the consensus distance is measured outside of evaluations."""
        return _divides(self.evaluation.consensus_every, step)

    def evaluates(self, step: int) -> bool:
        """Return whether an evaluation is due."""
        by_epochs = _divides(self.evaluation.every_epochs * self.steps_per_epoch, step)
        return by_epochs or _divides(self.evaluation.every_steps, step) or self.is_last(step)

    def saves(self, step: int, *, rests: bool = False) -> bool:
        """Return whether a checkpoint is due; with ``rests`` those by epochs are left out."""
        by_epochs = not rests and _divides(self.checkpoint.every_epochs * self.steps_per_epoch, step)
        return by_epochs or _divides(self.checkpoint.every_steps, step) or self.is_last(step)

    def is_collective(self, step: int) -> bool:
        """Return whether anything is due for which all workers meet."""
        return self.evaluates(step) or self.saves(step) or self.measures_distance(step)


def _divides(every: int | None, step: int) -> bool:
    """Return whether ``step`` is one of every so many; of none where ``every`` is 0 or None."""
    return bool(every) and step % (every or 1) == 0

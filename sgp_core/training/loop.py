"""The training loop of one worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgp_core.errors import ConfigurationError
from sgp_core.tracking import Row, Tracker
from sgp_core.training.assembly import assemble
from sgp_core.training.checkpoint import CheckpointStore, State
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
from sgp_core.training.evaluation import Evaluator
from sgp_core.training.export import export_model
from sgp_core.training.metrics import Meter, row, score_of
from sgp_core.training.peers import Peers
from sgp_core.training.randomness import deterministic, seed_step
from sgp_core.training.saver import CheckpointSaver, restore
from sgp_core.training.step import TrainingDiverged, TrainingStep, placed
from sgp_core.training.stopping import Preempted, StopAgreement

__all__ = ["Preempted", "TrainingDiverged", "train"]


def train(
    experiment: Experiment,
    *,
    directory: Path,
    device: torch.device,
    evaluation: EvaluationConfig,
    checkpoint: CheckpointConfig,
    log_every: int = 10,
    trackers: Sequence[Tracker] = (),
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train one worker's share of ``experiment``, resuming from the newest complete checkpoint in ``directory``.

    Every worker calls this; torch.distributed is already initialised, or it is a world of one. ``directory`` (shared
    by all workers) gets ``checkpoints/`` and, at the end, ``model.safetensors`` and ``model.json``.

    Args:
        log_every: steps between two rows of training metrics.
        trackers: where rows go; rank 0 passes them, and closes them afterwards (``finish``).
        on_progress: called with every row, plus ``total_steps`` and ``total_epochs``.
        should_stop: asked about twice a second at step boundaries; if one worker passes it, all must. When any
            worker says yes all stop at the same step.

    Returns:
        ``{"status": "completed", "steps", "final": row, "best": row, "wall_time_s", "model": file name}``.

    Raises:
        ConfigurationError: the experiment cannot be, or ``directory`` belongs to another one.
        Preempted: stopped by ``should_stop``; every worker's state is saved.
        TrainingDiverged: the loss is no longer a number.
        CheckpointError: a checkpoint could not be written, or none of those there could be read.
    """
    with deterministic(experiment.training.deterministic):
        loop = _Loop(experiment, Path(directory), device, evaluation, checkpoint, log_every, trackers, on_progress)
        try:
            return loop.run(StopAgreement(loop.peers, should_stop))
        finally:
            loop.saver.wait(patience=10)


class _Loop:
    """One worker's training: what it is made of, and how far it is."""

    def __init__(
        self,
        experiment: Experiment,
        directory: Path,
        device: torch.device,
        evaluation: EvaluationConfig,
        checkpoint: CheckpointConfig,
        log_every: int,
        trackers: Sequence[Tracker],
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        if log_every < 1:
            raise ConfigurationError(f"log_every must be at least 1, not {log_every}")
        self.experiment = experiment
        self.directory = directory
        self.device = device
        self.evaluation = evaluation
        self.checkpoint = checkpoint
        self.log_every = log_every
        self.trackers = trackers
        self.on_progress = on_progress

        self.peers = Peers(device)
        self.parts = parts = assemble(experiment, device, self.peers)
        training = experiment.training
        self.take_step = TrainingStep(parts.model, parts.optimizer, parts.gossip, training)
        self.evaluate = Evaluator(
            parts.model, parts.gossip, parts.data.validation, self.peers, device, evaluation, training
        )
        self.store = CheckpointStore(directory, self.peers.world_size, experiment.fingerprint())
        self.saver = CheckpointSaver(self.store, self.peers.rank, checkpoint)

        self.steps_per_epoch = parts.shard.steps_per_epoch
        self.total_steps = training.epochs * self.steps_per_epoch
        if training.max_steps is not None:
            self.total_steps = min(self.total_steps, training.max_steps)
        self.step = 0
        self.window, self.since_evaluation = Meter(), Meter()
        self.best: Row | None = None
        self.latest: Row | None = None
        self.earlier_seconds = 0.0
        self.step_seconds = 0.0
        self.batches: tuple[int, list[Tensor]] = (-1, [])

    def run(self, stop: StopAgreement) -> dict[str, Any]:
        self.resume(restore(self.store, self.peers))
        self.started = time.perf_counter()
        while self.step < self.total_steps:
            if stop.reached(self.step, self.step_seconds):
                self.save()
                self.settle()
                raise Preempted(self.step)
            self.advance()
            if self.logs_now() or self.due(self.evaluation.consensus_every):
                self.log_training()
            improved = self.due_by_epochs(self.evaluation.every_epochs) and self.log_evaluation()
            if (
                self.due(self.checkpoint.every_steps)
                or self.due_by_epochs(self.checkpoint.every_epochs)
                or (improved and self.checkpoint.keep_best)
            ):
                self.save()
            self.saver.check()
        return self.finish()

    # -- one step -----------------------------------------------------------------------------------------------
    def advance(self) -> None:
        """Take one optimizer step and time its stages."""
        parts, seed = self.parts, self.experiment.seed
        start = time.perf_counter()
        data_generator = seed_step(seed, self.peers.rank, self.step)
        inputs, targets = parts.data.train.batch(self.batch_indices(), data_generator)
        inputs = placed(inputs, self.device, self.experiment.training)
        targets = targets.to(self.device, non_blocking=True)
        self.set_learning_rate()
        ready, communicated = time.perf_counter(), parts.gossip.communication_seconds
        loss = self.take_step(inputs, targets)
        self.step += 1
        if self.device.type == "cuda" and self.logs_now():
            torch.cuda.synchronize(self.device)  # kernels launched by the steps of this window end inside it
        end = time.perf_counter()
        communication = parts.gossip.communication_seconds - communicated
        for meter in (self.window, self.since_evaluation):
            meter.add(
                examples=len(targets),
                loss=loss,
                data=ready - start,
                compute=end - ready - communication,
                communication=communication,
            )
        self.step_seconds = end - start

    def batch_indices(self) -> Tensor:
        epoch, batch = divmod(self.step, self.steps_per_epoch)
        if self.batches[0] != epoch:
            self.batches = (epoch, self.parts.shard.indices(epoch))
        return self.batches[1][batch]

    def set_learning_rate(self) -> None:
        factor = self.parts.schedule.factor(self.step, self.steps_per_epoch, self.total_steps, self.peers.world_size)
        for group in self.parts.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    # -- when ---------------------------------------------------------------------------------------------------
    def due(self, every_steps: int | None) -> bool:
        """Whether something that happens every so many steps (0 or None: never) happens after this one."""
        return bool(every_steps) and self.step % every_steps == 0  # type: ignore[operator]

    def logs_now(self) -> bool:
        """Whether a row of training metrics is due; the last step always has one."""
        return self.due(self.log_every) or self.step == self.total_steps

    def due_by_epochs(self, every_epochs: int) -> bool:
        """Likewise by epochs; the last step is left to :meth:`finish`."""
        return self.step < self.total_steps and self.due(every_epochs * self.steps_per_epoch)

    # -- rows ---------------------------------------------------------------------------------------------------
    def log_training(self) -> None:
        """Log this worker's averages since the last row; the workers' distance only where it is due."""
        gossip = self.parts.gossip
        distance, weights = None, [gossip.push_sum_weight]
        if self.due(self.evaluation.consensus_every):
            distance, weights = gossip.consensus_distance(), self.peers.gather(gossip.push_sum_weight)
        averages = self.window.averages(self.peers.world_size)
        self.take_step.check(averages["loss"] or 0.0, self.step)
        self.log("train", averages, distance, weights, {})
        self.window.reset()

    def log_evaluation(self) -> bool:
        """Evaluate, log, and return whether this is the best so far. Collective."""
        gossip = self.parts.gossip
        scores = self.evaluate()
        averages = {**self.since_evaluation.averages(self.peers.world_size), "loss": scores.pop("loss", None)}
        weights = self.peers.gather(gossip.push_sum_weight)
        self.latest = self.log("val", averages, gossip.consensus_distance(), weights, scores)
        self.since_evaluation.reset()
        score, best = score_of(self.latest), score_of(self.best or {})
        improved = score is not None and (best is None or score > best)
        if improved:
            self.best = self.latest
        return improved

    def log(
        self,
        split: str,
        averages: dict[str, float | None],
        distance: float | None,
        weights: list[float],
        scores: dict[str, float],
    ) -> Row:
        line = row(
            step=self.step,
            epoch=self.step / self.steps_per_epoch,
            split=split,
            wall_time_s=self.wall_time(),
            lr=self.parts.optimizer.param_groups[0]["lr"],
            averages=averages,
            bytes_sent=self.parts.gossip.bytes_sent,
            consensus_distance=distance,
            push_sum_weights=weights,
            world_size=self.peers.world_size,
            scores=scores,
        )
        for tracker in self.trackers:
            tracker.log(line)
        if self.on_progress is not None:
            totals = {"total_steps": self.total_steps, "total_epochs": self.total_steps / self.steps_per_epoch}
            self.on_progress({**line, **totals})
        return line

    def wall_time(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self.earlier_seconds + time.perf_counter() - self.started

    # -- state --------------------------------------------------------------------------------------------------
    def save(self) -> None:
        """Save this worker's state; where this step was evaluated, with its score."""
        if self.saver.saved_step == self.step:
            return
        evaluated = self.latest if self.latest and self.latest["step"] == self.step else None
        self.saver.save(self.step, self.state(), score_of(evaluated) if evaluated else None)

    def settle(self) -> None:
        """Return once every worker's checkpoint is on disk."""
        self.saver.wait()
        self.peers.barrier()

    def state(self) -> State:
        epoch, batch = divmod(self.step, self.steps_per_epoch)
        return {
            "step": self.step,
            "cursor": {"epoch": epoch, "batch": batch, "steps_per_epoch": self.steps_per_epoch},
            "gossip": self.parts.gossip.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "buffers": dict(self.parts.model.named_buffers()),
            "window": self.window.state(),
            "since_evaluation": self.since_evaluation.state(),
            "best": self.best,
            "latest": self.latest,
            "seconds": self.wall_time(),
        }

    @torch.no_grad()
    def resume(self, state: State | None) -> None:
        """Continue from a saved state, or begin; rows of steps after it are forgotten."""
        if state is not None:
            if state["cursor"]["steps_per_epoch"] != self.steps_per_epoch:
                raise ConfigurationError(
                    f"the checkpoint in {self.store.folder} was saved with {state['cursor']['steps_per_epoch']} steps "
                    f"per epoch, the data set now gives {self.steps_per_epoch}: it has changed"
                )
            self.step = self.saver.saved_step = state["step"]
            for name, buffer in self.parts.model.named_buffers():
                buffer.copy_(state["buffers"][name])
            self.parts.optimizer.load_state_dict(state["optimizer"])
            self.parts.gossip.load_state_dict(state["gossip"])
            self.window.load(state["window"])
            self.since_evaluation.load(state["since_evaluation"])
            self.best, self.latest, self.earlier_seconds = state["best"], state["latest"], state["seconds"]
        for tracker in self.trackers:
            tracker.resume(self.step)

    def finish(self) -> dict[str, Any]:
        """Complete messages in flight, evaluate, save, export the averaged model, and return the summary."""
        self.parts.gossip.finish()
        if self.latest is None or self.latest["step"] != self.step:
            self.log_evaluation()
        self.save()
        self.settle()
        with self.parts.gossip.averaged():
            if self.peers.rank == 0:
                export_model(self.parts.model, self.directory / "model.safetensors", self.description())
        self.peers.barrier()
        return {
            "status": "completed",
            "steps": self.step,
            "final": self.latest,
            "best": self.best,
            "wall_time_s": self.wall_time(),
            "model": "model.safetensors",
        }

    def description(self) -> dict[str, Any]:
        """What one needs to know to rebuild the exported model."""
        data = self.parts.data
        return {
            "model": self.experiment.to_dict()["model"],
            "example_shape": list(data.example_shape),
            "num_classes": data.num_classes,
            "dataset": self.experiment.to_dict()["dataset"].get("name"),
            "step": self.step,
            "scores": {name: value for name, value in (self.latest or {}).items() if "accuracy" in name},
        }

"""The training loop of one worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.elastic import ElasticGroup
from sgp_core.gossip import Gossip
from sgp_core.timeline import now
from sgp_core.tracking import Tracker
from sgp_core.training.assembly import CommunicationChoice, assemble
from sgp_core.training.batches import BatchSource
from sgp_core.training.callback_list import CallbackList
from sgp_core.training.callbacks import TrainingProgress
from sgp_core.training.checkpoint import CheckpointStore, State
from sgp_core.training.companions import Companion, accompany
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment, LoaderConfig
from sgp_core.training.due import DueSteps
from sgp_core.training.evaluation import Evaluator
from sgp_core.training.export import export_run
from sgp_core.training.inputs import Inputs, explaining_refusal, inputs_of, keep_inputs
from sgp_core.training.kinds_of_run import build_peers, build_step
from sgp_core.training.randomness import deterministic, seed_model
from sgp_core.training.reporter import OnProgress, Reporter
from sgp_core.training.saver import CheckpointSaver, check_resumable, restore
from sgp_core.training.step import TrainingDiverged
from sgp_core.training.stopping import Preempted, Stop, build_stop
from sgp_core.training.utilisation import utilisation_of
from sgp_core.training.virtual.world import VirtualWorld
from sgp_core.validation import at_least

__all__ = ["Preempted", "TrainingDiverged", "train"]


def train(
    experiment: Experiment,
    *,
    directory: Path,
    device: torch.device,
    evaluation: EvaluationConfig,
    checkpoint: CheckpointConfig,
    loader: LoaderConfig | None = None,
    log_every: int = 10,
    trackers: Sequence[Tracker] = (),
    on_progress: OnProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
    timeline_steps: int = 0,
    transport: str = "auto",
    step_in_backward: bool = False,
    companions: Sequence[Companion] = (),
    elastic: ElasticGroup | None = None,
    link_faults: LinkFaults | None = None,
    virtual: VirtualWorld | None = None,
) -> dict[str, Any]:
    """Train as one worker of ``experiment``; resume from the newest complete checkpoint in ``directory``.

    Every worker calls this; torch.distributed is already initialised, or it is a world of one. ``directory`` (shared
    by all workers) gets ``checkpoints/`` and, at the end, ``model.safetensors`` and ``model.json``.

    Args:
        loader: how batches are made ahead of need; no part of the experiment.
        log_every: steps between two rows of training metrics.
        trackers: destinations of this worker's rows; the caller closes them afterwards (``finish``).
        on_progress: called with every row, plus ``total_steps`` and ``total_epochs``.
        should_stop: asked about twice a second at step boundaries; if one worker passes it, all must. When any
            worker says yes all stop at the same step; with an asynchronous algorithm, each at the one it has reached.
        timeline_steps: how many steps to record in ``directory/timeline/rank-<k>.json``, after the first few.
        transport, step_in_backward, link_faults: as in :class:`sgp_core.Gossip`; no part of the experiment.
        companions: blocks that training is to go on inside, opened when everything is assembled.
        virtual: train all workers of ``experiment`` in this process, in this world; None: each is a process.
        elastic: the workers, some of which may die or come, in place of torch.distributed's.

    Returns:
        ``{"status": "completed", "steps", "final": row, "best": row, "wall_time_s", "model": file name}``,
        ``"test": {split: scores}`` if there are test splits, and ``"skipped_steps"`` if any were.

    Raises:
        ConfigurationError: the experiment is not valid, or ``directory`` belongs to another one.
        Preempted: stopped by ``should_stop``; every worker's state is saved.
        NotFinite: a gradient, a parameter or the loss (``TrainingDiverged``) is not finite. Nothing of it has reached
            another worker or a checkpoint.
        CheckpointError: a checkpoint cannot be written, or there are checkpoints and none can be read.
        LoaderDied: a process that makes batches was killed.
    """
    with deterministic(experiment.training.deterministic):
        loop = _Loop(
            experiment,
            Path(directory),
            device,
            evaluation,
            checkpoint,
            loader or LoaderConfig(),
            log_every,
            trackers,
            on_progress,
            timeline_steps,
            CommunicationChoice(transport, step_in_backward, elastic, link_faults, virtual),
        )
        try:
            with accompany(companions, loop.progress):
                loop.run(build_stop(loop.parts.gossip, loop.peers, should_stop))
                return loop.finish()
        except BaseException:
            loop.saver.leave()
            raise
        finally:
            loop.batches.close()
            if loop.timeline is not None:
                loop.timeline.write()


class _Loop:
    """The state of one worker's training."""

    def __init__(
        self,
        experiment: Experiment,
        directory: Path,
        device: torch.device,
        evaluation: EvaluationConfig,
        checkpoint: CheckpointConfig,
        loader: LoaderConfig,
        log_every: int,
        trackers: Sequence[Tracker],
        on_progress: OnProgress | None,
        timeline_steps: int,
        communication: CommunicationChoice,
    ) -> None:
        at_least(1, "log_every", log_every)
        self.experiment = experiment
        self.directory, self.device = directory, device
        self.checkpoint = checkpoint
        training = experiment.training
        self.peers = build_peers(communication, experiment, device)
        begins = not any(directory.glob("checkpoints/step-*/manifest.json"))
        self.parts = parts = assemble(experiment, device, self.peers, communication, begins)
        self.steps_per_epoch = parts.sampler.steps_per_epoch
        total_steps = training.epochs * self.steps_per_epoch
        if training.max_steps is not None:
            total_steps = min(total_steps, training.max_steps)
        self.due = DueSteps(log_every, evaluation, checkpoint, self.steps_per_epoch, total_steps)
        self.timeline = parts.record(directory, timeline_steps)
        self.take_step: Callable[[Any], torch.Tensor | None]
        self.take_step = step = build_step(parts, experiment, device, self.timeline, self.rate, self.due)
        self.check_loss = step.check
        self.evaluate = Evaluator(
            parts.model, parts.gossip, parts.chosen.kind, parts.task, self.peers, device, evaluation, training, loader
        )
        kind, of_run = parts.chosen.kind, (trackers, on_progress, self.steps_per_epoch, total_steps)
        used = utilisation_of(parts, training, evaluation.peak_tflops)
        self.report = Reporter(parts.gossip, parts.optimizer, self.peers, kind, *of_run, used)
        who = (parts.model, parts.optimizer, cast(Gossip, parts.gossip), kind)
        ranks = (self.peers.rank, self.peers.world_size)
        self.progress = TrainingProgress(*who, *ranks, self.steps_per_epoch, total_steps)
        self.callbacks = CallbackList(parts.chosen.callbacks, self.progress, self.peers)
        self.store = CheckpointStore(directory, ranks[1], experiment.fingerprint(), shards=self.peers.processes)
        self.saver = CheckpointSaver(self.store, self.peers.rank, checkpoint, self.peers.checkpoint_rest_s)
        self.step = 0
        self.concluded = True
        """Whether everything that was due after the latest step is done."""
        self.step_seconds = 0.0
        self.batches = BatchSource(parts, experiment.seed, total_steps, loader)

    def run(self, stop: Stop) -> None:
        if (inherited := self.parts.gossip.inherited) is None:
            self.resume(restore(self.store, self.peers))
        else:
            self.go_on_from(inherited)
            stop.next_step = inherited["next_stop"]
        if self.peers.leads:
            keep_inputs(self.directory, self.inputs(self.parts.task.content()), self.step)
        self.batches.begin(self.step)
        while self.step < self.due.total_steps or not self.concluded:
            if inherited is None and stop.should_stop(self.step, self.step_seconds):
                raise self.save_and_stop()
            inherited = None  # the others have agreed, before this worker came, not to stop before this step
            if self.concluded:
                self.parts.gossip.admit(lambda: {**self.progress_state(), "next_stop": stop.next_step})
                self.advance()
            if self.due.is_collective(self.step) and stop.should_stop_at_collective():
                raise self.save_and_stop()
            self.conclude()

    # -- one step -----------------------------------------------------------------------------------------------
    def advance(self) -> None:
        """Take one optimizer step and time its stages."""
        parts = self.parts
        if self.timeline is not None:
            self.timeline.begin_step(self.step)
        start, began = time.perf_counter(), now()
        seed_model(self.experiment.seed, self.peers.rank, self.step, self.device)
        batch = self.batches.next(self.step).to(self.device, channels_last=self.experiment.training.channels_last)
        self.set_learning_rate()
        ready, communicated = time.perf_counter(), parts.gossip.communication_seconds
        if self.timeline is not None:
            self.timeline.span("data", began, now())
        loss = self.take_step(batch)
        self.step += 1
        self.concluded = False
        if self.device.type == "cuda" and self.due.logs(self.step):
            torch.cuda.synchronize(self.device)  # kernels launched by the steps of this window end inside it
        if self.timeline is not None:
            self.timeline.end_step(began)
        end, communication = time.perf_counter(), parts.gossip.communication_seconds - communicated
        self.report.count(
            batch=batch,
            loss=loss,
            data=ready - start,
            compute=end - ready - communication,
            communication=communication,
        )
        self.step_seconds = end - start
        self.callbacks.after_step(self.step)

    def conclude(self) -> None:
        """Do what is due after a step: rows, evaluation, checkpoint; collective where :class:`DueSteps` says so."""
        if self.due.logs(self.step) or self.due.measures_distance(self.step):
            self.check_loss(self.report.mean_loss(), self.step)
            self.report.training(self.step, self.due.measures_distance(self.step))
        improved = False
        if self.due.is_last(self.step):
            self.parts.gossip.finish()
        if self.due.evaluates(self.step):
            scores = self.evaluate(last=self.due.is_last(self.step))
            if self.callbacks.evaluation(scores) and self.step < self.due.total_steps:
                scores |= self.end_early()
            improved = self.report.evaluation(self.step, scores)
        self.concluded = True
        rests = self.saver.rests
        if self.due.saves(self.step, rests=rests) or (improved and self.checkpoint.keep_best and not rests):
            self.save()
        self.saver.check()

    def end_early(self) -> dict[str, Any]:
        """Make this step the last one, as a callback requested; return the scores that only the end brings."""
        if not self.due.logs(self.step):
            self.report.training(self.step, measure_distance=False)
        self.due.total_steps = self.step
        self.parts.gossip.finish()
        return self.evaluate.generation_at_end()

    def set_learning_rate(self) -> None:
        """Give the next step its learning rate: a pure function of the step."""
        factor = self.rate(self.step)
        for group in self.parts.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def rate(self, step: int) -> float:
        """Return what the schedule multiplies the learning rate by at a step."""
        sizes = self.steps_per_epoch, self.due.total_steps, self.peers.world_size
        return self.parts.chosen.schedule.factor(step, *sizes)

    # -- state --------------------------------------------------------------------------------------------------
    def save(self) -> None:
        """Save this worker's state; with the score if this step was evaluated."""
        if self.saver.saved_step != self.step:
            self.saver.save(self.step, self.state(), self.report.score_at(self.step), self.peers.writing_duty())

    def save_and_stop(self) -> Preempted:
        """Save every worker's state and return the exception to raise. The checkpoint is named by the largest step."""
        step = int(max(self.peers.gather(self.step)))
        if self.parts.gossip.asynchronous:
            self.saver.save(step, self.state())  # this worker may have saved this very step, but not all have
        else:
            self.save()
        self.settle()
        return Preempted(step)

    def settle(self) -> None:
        """Return once every worker's checkpoint is on disk."""
        self.saver.wait()
        self.peers.barrier()

    def state(self) -> State:
        """Return everything a bit-exact resume of this worker needs; random numbers are functions of the step."""
        self.parts.gossip.check_finite()
        return {
            **self.progress_state(),
            "gossip": self.parts.gossip.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "buffers": dict(self.parts.model.named_buffers()),
        }

    def progress_state(self) -> State:
        """Return how far training is."""
        cursor = dict(zip(("epoch", "batch"), divmod(self.step, self.steps_per_epoch), strict=True))
        return {
            "step": self.step,
            "concluded": self.concluded,
            "task": self.parts.task.state(),
            "cursor": {**cursor, "steps_per_epoch": self.steps_per_epoch},
            "report": self.report.state(),
            "callbacks": self.callbacks.state(),
        }

    def inputs(self, data: Mapping[str, Any] | None = None) -> Inputs:
        """Return what is kept of the data, if they are given, and of the graph."""
        return inputs_of(data or {}, self.parts.chosen.topology.content())

    @torch.no_grad()
    def resume(self, state: State | None) -> None:
        """Continue from a saved state, or begin."""
        if state is not None:
            check_resumable(state, self.store.folder, self.parts.task.state(), self.steps_per_epoch)
            if not self.parts.gossip.asynchronous:  # there, others may have been at other steps
                self.saver.saved_step = state["step"]
            for name, buffer in self.parts.model.named_buffers():
                buffer.copy_(state["buffers"][name])
            self.parts.optimizer.load_state_dict(state["optimizer"])
            with explaining_refusal(self.directory, self.inputs()):
                self.parts.gossip.load_state_dict(state["gossip"])
        self.go_on_from(state)

    def go_on_from(self, state: State | None) -> None:
        """Be as far as a state says; the model is there already."""
        if state is not None:
            self.step, self.concluded = state["step"], state["concluded"]
            self.report.load(state["report"])
            if "callbacks" in state:
                self.callbacks.load(state["callbacks"])
            if self.callbacks.stopped:
                self.due.total_steps = self.step
        self.report.start(self.step)
        self.callbacks.start(self.step)

    # -- the end ------------------------------------------------------------------------------------------------
    def finish(self) -> dict[str, Any]:
        """Wait for the last checkpoint, test and export the averaged model, and return the summary."""
        self.settle()
        self.callbacks.end()
        tests = {split: scores for split, scores in self.evaluate.tests().items() if scores}
        with self.parts.gossip.averaged():
            if self.peers.leads:
                export_run(self.directory, self.experiment, self.parts, self.step, self.report.latest or {}, tests)
        return {
            "status": "completed",
            "steps": self.step,
            "final": self.report.latest,
            "best": self.report.best,
            **({"test": tests} if tests else {}),
            **({"skipped_steps": skipped} if (skipped := self.parts.gossip.skipped_steps) else {}),
            "wall_time_s": self.report.seconds(),
            "model": "model.safetensors",
        }

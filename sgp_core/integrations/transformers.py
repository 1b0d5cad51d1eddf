"""Gossip in scripts that use the ``Trainer`` of Hugging Face's transformers: ``GossipTrainer`` in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.integrations.accelerate import FOLDER, GossipAccelerator
from sgp_core.integrations.choices import GossipChoice, GossipChoices

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise ImportError(f"{error}; pip install 'stochastic-gradient-push[transformers]' installs it") from error


class GossipTrainer(Trainer):
    """A ``Trainer`` whose workers gossip: ``GossipTrainer(..., gossip={"algorithm": "sgp", "topology": "ring"})``.

    Other trainers gossip by ``class MyTrainer(GossipTrainer, Seq2SeqTrainer): ...``.

    The model is not wrapped in DistributedDataParallel. Evaluation, prediction and ``save_model()`` use the network's
    average; checkpoints hold, beside the average, every worker's own state, from which training resumes bit for bit on
    the CPU. When ``train()`` returns, the model is the average on every worker.

    Args:
        *args: as for the Trainer.
        gossip: the name of an algorithm, or a mapping of options; see
            :class:`sgp_core.integrations.choices.GossipChoices`.
        **kwargs: as for the Trainer.

    Attributes:
        on_sigterm: the callback that notes a SIGTERM, with ``enable_jit_checkpoint``; else None.

    Raises:
        ConfigurationError: the options are wrong, or the Trainer was told to shard the model in another way.
    """

    def __init__(self, *args: Any, gossip: GossipChoice, **kwargs: Any) -> None:
        self._gossip_choices = GossipChoices(gossip)
        self._distance: float | None = None
        super().__init__(*args, **kwargs)
        check_arguments(self.args)
        self.on_sigterm = _take_sigterm(self)
        self.callback_handler.callbacks.insert(0, GossipCallback(self))  # others see its decisions, and the average

    @property
    def gossip(self) -> Gossip | None:
        """The :class:`sgp_core.Gossip` of the training, also after it; None before."""
        gossip: Gossip | None = self.accelerator.gossip
        return gossip

    # -- training ------------------------------------------------------------------------------------------------------
    def create_accelerator_and_postprocess(self) -> None:
        """Build the accelerator, and let it gossip."""
        super().create_accelerator_and_postprocess()
        self._gossip_choices.clip_in_backward(self.args.max_grad_norm or 0.0)
        GossipAccelerator.take_over(self.accelerator, self._gossip_choices)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train. With ``resume_from_checkpoint=True`` from the last checkpoint that was written to its end."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir) or True
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with what gossip has cost this worker so far."""
        gossip = self.gossip
        if gossip is not None and "loss" in logs:
            logs["bytes_sent"] = float(gossip.bytes_sent)
            logs["communication_seconds"] = round(gossip.communication_seconds, 4)
        super().log(logs, *args, **kwargs)

    # -- evaluating ----------------------------------------------------------------------------------------------------
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the network's average. Every worker must call while training goes on."""
        with self._evaluating():
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict with the network's average. Every worker must call while training goes on."""
        with self._evaluating():
            return super().predict(*args, **kwargs)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Evaluate, and add how far workers were apart, ``consensus_distance``."""
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self._distance is not None:
            output.metrics[f"{metric_key_prefix}_consensus_distance"] = self._distance
        return output

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        outermost = self._distance is None
        gossip = self.gossip
        if outermost and self.accelerator.gossiping and gossip is not None:
            self._distance = gossip.consensus_distance()
        try:
            with self.accelerator.averaged():
                yield
        finally:
            if outermost:
                self._distance = None

    # -- saving --------------------------------------------------------------------------------------------------------
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the network's average. Every worker must call while training goes on; afterwards rank 0 alone may."""
        if not self.accelerator.gossiping:
            super().save_model(output_dir, _internal_call)
            return
        with self.accelerator.averaged():
            super().save_model(output_dir, _internal_call)
        self.accelerator.wait_for_everyone()  # for the one that writes

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.accelerator.save_gossip(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.accelerator.load_gossip(checkpoint)

    def _load_best_model(self) -> None:
        self.accelerator.finish_gossip()
        super()._load_best_model()


class GossipCallback(TrainerCallback):
    """Acts for a :class:`GossipTrainer` at the end of steps and of training, before all other callbacks.

    Args:
        trainer: whose.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let all workers save and stop after the same step, once one of them was asked to by a signal."""
        on_sigterm = self._trainer.on_sigterm
        if on_sigterm is None:
            return
        asked = torch.tensor(float(on_sigterm.jit_manager.is_checkpoint_requested), device=args.device)
        if self._trainer.accelerator.reduce(asked, "sum").item() > 0:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let every worker keep the average."""
        self._trainer.accelerator.finish_gossip()
        if self._trainer.on_sigterm is not None:
            self._trainer.on_sigterm.on_train_end(args, state, control, **kwargs)


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """Return the last of the checkpoints ``checkpoint-STEP`` in a folder that was written to its end; None: none was.

    The trainer's state is written last, and every worker's own state in one go; those of a plain Trainer have none.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    found.sort(key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in found:
        own = path / FOLDER
        if (path / "trainer_state.json").is_file() and (not own.exists() or (own / "manifest.json").is_file()):
            return str(path)
    return None


def _take_sigterm(trainer: Any) -> Any:
    """Return the callback that notes a SIGTERM (``enable_jit_checkpoint``), taken from the trainer, whose workers it
    would let save each by itself; None: there is none."""
    for callback in list(trainer.callback_handler.callbacks):
        if getattr(callback, "jit_manager", None) is not None:
            trainer.remove_callback(callback)
            return callback
    return None


def check_arguments(arguments: Any) -> None:
    """Refuse what would take steps in another way, or has several GPUs in one process.

    Raises:
        ConfigurationError: it says what, and what would be right.
    """
    if arguments.n_gpu > 1:
        raise ConfigurationError(
            f"one process sees {arguments.n_gpu} GPUs, which Trainer uses by nn.DataParallel; start a worker for each:"
            f" torchrun --nproc-per-node {arguments.n_gpu} ..."
        )
    optimizer = str(getattr(arguments.optim, "value", arguments.optim))
    if "lomo" in optimizer or "layerwise" in optimizer:
        raise ConfigurationError(f"optim={optimizer} has no step after which models could be exchanged; choose another")

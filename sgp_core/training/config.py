"""The settings of a training run: plain dataclasses without torch, which OmegaConf accepts as structured configs.

:class:`Experiment` holds everything that determines the numbers of a run; evaluation and checkpoint settings only
determine what is measured and kept. The docstring under each field is its manual.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sgp_core.bounds import between
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.nonfinite import Nonfinite
from sgp_core.registry import LATER
from sgp_core.training.groups import GROUPS, NOTHING, OPTIONAL, registry
from sgp_core.training.settings import FORMERLY, Settings, former_names, plain, section_name
from sgp_core.validation import at_least, below_one, one_of, positive, require


class Precision(StrEnum):
    """Arithmetic of forward and backward; parameters, gradients and gossip stay in float32."""

    fp32 = "fp32"
    bf16 = "bf16"


class Compile(StrEnum):
    """What torch compiles."""

    blocks = "blocks"
    """Each residual block or transformer layer by itself."""


class EvaluatedModel(StrEnum):
    """Which model is evaluated."""

    averaged = "averaged"
    """The average over all workers, buffers included: with the task's scores."""
    local = "local"
    """Each worker's own de-biased replica: `loss_local_mean`, and the score's `_local_mean`, `_min` and `_max`."""
    both = "both"


class When(StrEnum):
    """How often something expensive is done."""

    end = "end"
    always = "always"
    never = "never"


@dataclass
class TrainingConfig(Settings):
    """How long a worker trains, on which batches and in which arithmetic."""

    epochs: int = 10
    """Passes over the training set."""
    max_steps: int | None = None
    """Stop after this many optimizer steps even if epochs are left; None: never."""
    batch_size: int = 32
    """Examples per worker and optimizer step; text is measured in tokens instead, by ``dataset.max_tokens``."""
    accumulation_steps: int = 1
    """Parts a batch is computed in, to save memory; the gradient is that of the whole batch."""
    clip_norm: float | None = None
    """Largest global gradient norm; longer gradients are scaled down to it. None: never."""
    label_smoothing: float = 0.0
    """Share of the target probability spread evenly over all classes or tokens in the training loss, 0 to below 1."""
    precision: Precision = Precision.fp32
    """Arithmetic of forward and backward: fp32, or bf16 by autocast."""
    channels_last: bool = False
    """Keep inputs of four dimensions and convolution weights in channels-last memory order."""
    deterministic: bool = True
    """Use only kernels that give the same bits every time; needed for bit-exact resume on CUDA."""
    compile: Compile | None = field(default=None, metadata=LATER)
    """blocks: compile each block of the model with torch.compile; None: compile nothing."""
    activation_checkpointing: bool = field(default=False, metadata=LATER)
    """Compute what each block of the model keeps for backward once more, to save memory; the bits are the same."""
    nonfinite: Nonfinite = field(default=Nonfinite.stop, metadata=LATER)
    """When a loss or gradient is nan or infinite: stop the run before it reaches other workers; or skip the step on all
    workers, up to 20 in a row."""

    def __post_init__(self) -> None:
        self.precision = one_of(Precision, "training.precision", self.precision)
        if self.compile is not None:
            self.compile = one_of(Compile, "training.compile", self.compile)
        self.nonfinite = one_of(Nonfinite, "training.nonfinite", self.nonfinite)
        at_least(1, "training.epochs", self.epochs)
        at_least(1, "training.max_steps", self.max_steps)
        at_least(1, "training.batch_size", self.batch_size)
        at_least(1, "training.accumulation_steps", self.accumulation_steps)
        if self.accumulation_steps > self.batch_size:
            raise ConfigurationError(
                f"training.accumulation_steps={self.accumulation_steps} cannot exceed "
                f"training.batch_size={self.batch_size}: it is the number of parts of a batch"
            )
        clips = self.clip_norm is None or 0 < self.clip_norm < math.inf
        require(clips, "training.clip_norm", "positive or null", self.clip_norm)
        below_one("training.label_smoothing", self.label_smoothing)

    def changed_options(self) -> dict[str, Any]:
        """Return the options that do not have their defaults."""
        usual = TrainingConfig().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}


@dataclass
class EvaluationConfig(Settings):
    """When the validation set is evaluated, and with which model."""

    every_steps: int | None = None
    """Steps between two evaluations, besides those by epochs; None: none."""
    every_epochs: int = 1
    """Epochs between two evaluations; 0: none but the one at the end, which always takes place."""
    model: EvaluatedModel = EvaluatedModel.averaged
    """averaged: the network-wide average; local: each worker's replica (mean, min, max); or both."""
    batch_size: int = 256
    """Most examples per forward pass."""
    generate: When = field(default=When.end, metadata={FORMERLY: "translate"})
    """When the averaged model is scored by what it generates, which takes a while: at the end of training (on test
    splits, too), at each evaluation, or never. Only for tasks that generate."""
    metrics: list[Any] = field(default_factory=list)
    """Metrics that are computed beside the task's scores: names, or ``{name: ..., options...}``."""
    consensus_every: int = 0
    """Steps between two measurements of the consensus distance; 0: at evaluations only."""
    peak_tflops: float | None = None
    """10^12 operations per second that a device can do at most, of which ``mfu`` is the share that is used; None: known
    for some GPUs."""

    def __post_init__(self) -> None:
        self.model = one_of(EvaluatedModel, "evaluation.model", self.model)
        if self.metrics and self.model is EvaluatedModel.local:
            raise ConfigurationError(
                "evaluation.metrics are those of the averaged model; use evaluation.model=averaged or both"
            )
        self.metrics = [named_choice(metric, "evaluation.metrics") for metric in self.metrics]
        self.generate = one_of(When, "evaluation.generate", self.generate)
        at_least(1, "evaluation.every_steps", self.every_steps)
        at_least(0, "evaluation.every_epochs", self.every_epochs)
        at_least(1, "evaluation.batch_size", self.batch_size)
        at_least(0, "evaluation.consensus_every", self.consensus_every)
        if self.peak_tflops is not None:
            positive("evaluation.peak_tflops", self.peak_tflops)


@dataclass
class CheckpointConfig(Settings):
    """When checkpoints are written and which are kept. One is always written at the end and at preemption."""

    every_steps: int | None = None
    """Steps between two checkpoints, besides those of ``every_epochs``; None: no others."""
    every_epochs: int = 1
    """Epochs between two checkpoints; 0: none by epochs."""
    keep_last: int = 2
    """How many of the newest checkpoints to keep."""
    keep_best: bool = True
    """Also keep the one with the best validation score; a new best is saved even if none was due."""
    asynchronous: bool = True
    """Write in a background thread, from a copy that is taken between two steps."""

    def __post_init__(self) -> None:
        at_least(1, "checkpoint.every_steps", self.every_steps)
        at_least(0, "checkpoint.every_epochs", self.every_epochs)
        at_least(1, "checkpoint.keep_last", self.keep_last)


@dataclass
class LoaderConfig(Settings):
    """How batches are made ahead of need. The batches are the same whatever is chosen here."""

    processes: int | None = field(default=None, metadata=between(0, 256))
    """Loader processes per worker; 0: the worker makes its batches. None: 1 if batches are slow to make, else 0."""
    ahead: int = field(default=2, metadata=between(1, 10_000))
    """Batches that each process has ready."""

    def __post_init__(self) -> None:
        at_least(0, "loader.processes", self.processes)
        at_least(1, "loader.ahead", self.ahead)

    def number(self, slow: bool) -> int:
        """Return the number of loader processes; ``slow``: whether batches are slow to make."""
        return int(slow) if self.processes is None else self.processes


@dataclass
class Experiment(Settings):
    """Everything that determines the numbers of a run. Choices are ``{"name": ..., options...}``."""

    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    partition: dict[str, Any] = field(default_factory=lambda: {"name": "iid"})
    topology: dict[str, Any] = field(default_factory=dict)
    algorithm: dict[str, Any] = field(default_factory=dict)
    outer: dict[str, Any] = field(default_factory=lambda: {"name": NOTHING})
    pace: dict[str, Any] = field(default_factory=lambda: {"name": "every"})
    compression: dict[str, Any] = field(default_factory=lambda: {"name": NOTHING})
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=lambda: {"name": NOTHING})
    """``none``: the task's own."""
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    """Callbacks, which watch training and may end it early."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    """Determines initial parameters, order of examples, augmentation and dropout."""
    world_size: int = 1
    """Number of workers."""
    node_size: int = 1
    """Number of consecutive ranks that act as one gossip node."""
    extends: dict[str, Any] | None = None
    """The ``run`` and the ``step`` of the checkpoint that this run begins with; None: it begins anew."""

    def __post_init__(self) -> None:
        self.callbacks = [named_choice(callback, "callbacks") for callback in self.callbacks]
        at_least(1, "world_size", self.world_size)
        at_least(1, "node_size", self.node_size)
        if self.world_size % self.node_size:
            raise ConfigurationError(
                f"node_size={self.node_size}: {self.world_size} workers cannot be divided into nodes of that size"
            )
        at_least(0, "seed", self.seed)

    @property
    def nodes(self) -> int:
        """Number of gossip nodes, which the topology connects."""
        return self.world_size // self.node_size

    def to_dict(self) -> dict[str, Any]:
        """Return the plain data of a JSON file; ``node_size`` and ``extends`` are there only where they are set."""
        values = super().to_dict()
        if self.node_size == 1:
            del values["node_size"]
        if self.extends is None:
            del values["extends"]
        return values

    def identity(self) -> dict[str, Any]:
        """Return what defines the numbers of this run: every option with its value, defaults filled in.

        Options that only say where data lies or how fast it is read are left out. Equal identities: equal runs.

        Raises:
            ConfigurationError: an unknown name or option.
        """
        identity = self.to_dict()
        for group in GROUPS:
            identity[group] = _identifying(group, identity[group])
        identity["callbacks"] = [_identifying("callback", callback) for callback in self.callbacks]
        if not self.callbacks:
            del identity["callbacks"]
        for entry in dataclasses.fields(TrainingConfig):
            if entry.metadata == LATER and identity["training"][entry.name] == entry.default:
                del identity["training"][entry.name]
        for group, default in _LATER.items():  # runs that are older than a group keep their identity
            if identity[group] == _identifying(group, {"name": default}):
                del identity[group]
        return identity

    def fingerprint(self) -> str:
        """Return the SHA-256 of :meth:`identity` in canonical JSON, as 64 hexadecimal digits."""
        canonical = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def renamed_options() -> dict[str, str]:
    """Return the present name of every setting that users of earlier versions know by another one."""
    sections: list[type[Settings]] = [TrainingConfig, EvaluationConfig, CheckpointConfig, LoaderConfig]
    return {
        f"{section_name(cls)}.{former}": f"{section_name(cls)}.{name}"
        for cls in sections
        for former, name in former_names(cls).items()
    }


def named_choice(given: Any, setting: str) -> dict[str, Any]:
    """Return the choice ``{"name": ..., options...}`` that an entry of the list ``setting`` stands for.

    Raises:
        ConfigurationError: the entry is neither a name nor such a dictionary.
    """
    require(isinstance(given, str | Mapping), f"an entry of {setting}", "a name or {name: ..., option: ...}", given)
    return {"name": given} if isinstance(given, str) else dict(given)


def choice(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split ``{"name": ..., options...}`` into the name and the options.

    Raises:
        ConfigurationError: there is no name.
    """
    if "name" not in values:
        raise ConfigurationError(f"a choice needs a name: {dict(values)}")
    return str(values["name"]), {key: value for key, value in values.items() if key != "name"}


_LATER = {"pace": "every", "compression": NOTHING, "partition": "iid", "loss": NOTHING}
"""Groups that were added later, with the choice that all earlier runs had."""


def _identifying(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    name, given = choice(values)
    if group in OPTIONAL and name == NOTHING:
        return {"name": name}
    options = registry(group).options(name)
    for option in given:
        if option not in options:
            raise ConfigurationError(f"{group} '{name}' has no option '{option}'{did_you_mean(option, options)}")
    identity: dict[str, Any] = {"name": name}
    defaults = {option: entry.default for option, entry in options.items()}
    for option, entry in options.items():
        identify = entry.metadata.get("identity", True)
        if callable(identify):
            if (known := identify({**defaults, **given})) is not None:
                identity[option] = known
        elif identify:
            default = entry.default_factory() if callable(entry.default_factory) else entry.default
            value = given.get(option, default)
            if entry.metadata == LATER and value == default:
                continue
            identity[option] = None if value is dataclasses.MISSING else plain(value)
    return identity

"""What the map trains, and the rules that compete. A new task, or a new rule, is an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PERIODS = (1, 8, 32, 128)
"""Steps between messages."""
Words = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A real experiment, and the score that counts as learnt.

    Attributes:
        words: settings of ``sgp-train``, less data, rule and number of workers.
        target: score of the average of all models on the validation data; a training ends there.
        step_ms: what a step of a worker computes, emulated: a worker has a machine of its own, as it were.
        most_steps: of a training.
        every: steps between evaluations.
        rates: learning rates; each rule has the one with which it is at the target first. The asynchronous rule and the
            graphs between regions have the first of them.
        needs_data: whether ``dataset.path`` must be given.
        score: what the target is of, the one by which the task's runs are ranked; less of it is better.
    """

    words: Words
    target: float
    step_ms: float
    most_steps: int
    every: int
    rates: tuple[float, ...]
    needs_data: bool = False
    score: str = "loss"


_TRANSLATION = (
    "dataset.max_tokens=128",
    "model=transformer",
    "model.size=tiny",
    "model.width=64",
    "model.norm=pre",
    "model.dropout=0.0",
    "optimizer=adam",
    "optimizer.beta2=0.98",
    "schedule=inverse_square_root",
    "schedule.warmup_steps=64",
    "training.label_smoothing=0.1",
    "evaluation.generate=never",
)
TASKS: dict[str, Task] = {
    "multi30k": Task(
        (
            "dataset=multi30k",
            "dataset.vocabulary=2000",
            "dataset.max_tokens=128",
            "dataset.max_length=64",
            *_TRANSLATION,
        ),
        target=4.05,
        step_ms=100.0,
        most_steps=768,
        every=16,
        rates=(0.016, 0.008),
        needs_data=True,
    ),
    "verses": Task(
        ("dataset=verses", "dataset.vocabulary=1000", "dataset.max_tokens=128", "dataset.max_length=64", *_TRANSLATION),
        target=5.2,
        step_ms=50.0,
        most_steps=256,
        every=8,
        rates=(0.004,),
    ),
    "language": Task(
        (
            "dataset=python_docs",
            "dataset.vocabulary=2000",
            "dataset.context=64",
            "dataset.validation_share=0.005",
            "model=gpt",
            "model.size=tiny",
            "model.width=96",
            "model.layers=3",
            "model.heads=3",
            "optimizer=adamw",
            "optimizer.beta2=0.95",
            "training.batch_size=4",
        ),
        target=2.4,
        step_ms=100.0,
        most_steps=512,
        every=16,
        rates=(0.004, 0.002),
        score="bits_per_byte",
    ),
}


@dataclass(frozen=True)
class Rule:
    """A way to train together.

    Attributes:
        family: its name in the map.
        period: steps between messages.
        words: settings of ``sgp-train`` that choose it.
        follows_time: whether what it computes depends on how long things take.
        slower: what the task's learning rates are multiplied by: outer momentum makes steps that much larger.
    """

    family: str
    period: int
    words: Words
    follows_time: bool = False
    slower: float = 1.0

    @property
    def name(self) -> str:
        """As in ``sgp-8``."""
        return self.family if self.period == 1 else f"{self.family}-{self.period}"


_GRAPH = "topology=one_peer_exponential"
_ALONE: Words = ("algorithm=local_sgd", "algorithm.period=0")


def _streams(period: int) -> Words:
    """Return what makes four fragments travel for half of the steps between two of them."""
    return ("outer.fragments=4", f"outer.overlap={period // 8}")


_FAMILIES: dict[str, tuple[tuple[int, ...], Callable[[int], Words]]] = {
    "allreduce": ((1,), lambda _: ("algorithm=allreduce",)),
    "local_sgd": (PERIODS[1:], lambda period: ("algorithm=local_sgd", f"algorithm.period={period}")),
    "sgp": (PERIODS, lambda period: ("algorithm=sgp", _GRAPH, f"pace.steps={period}")),
    "osgp": (PERIODS, lambda period: ("algorithm=osgp", _GRAPH, f"pace.steps={period}")),
    "diloco": (PERIODS[1:], lambda period: (*_ALONE, "outer=diloco", f"outer.tau={period}")),
    "streaming": (PERIODS[1:], lambda period: (*_ALONE, "outer=diloco", f"outer.tau={period}", *_streams(period))),
    "noloco": (PERIODS[1:], lambda period: (*_ALONE, "outer=noloco", f"outer.tau={period}")),
}
_SLOWER = {"diloco": 0.25, "streaming": 0.25}
RULES = tuple(
    Rule(name, period, words(period), slower=_SLOWER.get(name, 1.0))
    for name, (periods, words) in _FAMILIES.items()
    for period in periods
)
ASYNCHRONOUS = Rule("asgp", 1, ("algorithm=asgp", _GRAPH), follows_time=True)
"""Trained anew for each network: which messages have arrived when a step begins is part of what it computes."""
GRAPHS = tuple(
    Rule(f"{algorithm}/{graph}", 1, (f"algorithm={algorithm}", f"topology={graph}"))
    for algorithm in ("sgp", "osgp")
    for graph in ("ring", "exponential", "regions")
)
"""Who competes where two regions have a thin link between them, beside ``EVERYWHERE``."""
EVERYWHERE = ("allreduce", "sgp", "osgp")

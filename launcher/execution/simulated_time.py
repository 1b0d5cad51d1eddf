"""How long a candidate takes to a score, in the virtual time of virtual workers that really learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.config.clusters import SimulatorCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.hidden_run import run_hidden
from launcher.planning.candidates import Candidate
from launcher.runs.metric_rows import validations
from sgp_core.clock import ComputationModel, NetworkModel
from sgp_core.tasks.kinds import task_kind_of


@dataclass(frozen=True)
class Reached:
    """When a score was reached.

    Attributes:
        label: of the candidate.
        step: of the first evaluation with the score; None if there was none.
        seconds: virtual ones until then.
        best: the best score of all evaluations; None if the run failed.
    """

    label: str
    step: int | None
    seconds: float | None
    best: float | None

    def as_well(self, label: str, ratio: float) -> Reached:
        """Return when another candidate has, that learns the same in ``ratio`` of the time."""
        seconds = None if self.seconds is None else self.seconds * ratio
        return dataclasses.replace(self, label=label, seconds=seconds)


def time_to_score(
    plan: RunPlan,
    candidate: Candidate,
    network: NetworkModel,
    computation: ComputationModel,
    target: float,
    command: Sequence[str],
) -> Reached:
    """Train a candidate with virtual workers, and say when it has reached ``target`` in the task's score."""
    experiment = candidate.experiment
    stop = {"name": "stop_at", "score": target}
    experiment = dataclasses.replace(experiment, callbacks=[*experiment.callbacks, stop])
    simulated = dataclasses.replace(
        plan,
        experiment=experiment,
        cluster=SimulatorCluster(workers=experiment.world_size, workers_per_node=experiment.node_size),
        network=network.options(),
        computation=computation.options(),
    )
    with run_hidden(simulated, "plan", command) as (code, folder):
        rows = [] if code else validations(folder.metrics)
    kind = task_kind_of(experiment.dataset["name"])
    wanted = kind.rank({kind.score: target})
    ranked = [(rank, row) for row in rows if (rank := kind.rank(row)) is not None]
    first = next((row for rank, row in ranked if wanted is not None and rank >= wanted), {})
    best = max(ranked, key=lambda pair: pair[0])[1] if ranked else {}
    score = best.get(kind.score, best.get(f"{kind.score}_local_mean"))
    return Reached(candidate.label, first.get("step"), first.get("virtual_time_s"), score)

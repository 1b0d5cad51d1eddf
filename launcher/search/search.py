"""Random search and asynchronous TPE: each run is chosen when there is room for it, given all that have ended.

Optuna's study lies beside the sweep's record, and the run id tells which runs exist. The same command therefore
continues where it was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from launcher.config.compose import compose
from launcher.config.launch_options import LaunchOptions, launch_options
from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from launcher.config.schema import RandomSearch
from launcher.execution.snapshot import with_code
from launcher.runs.find import Sweep, members, read_runs
from launcher.runs.number_format import format_sample
from launcher.runs.ranking import evaluate, rank, search_objective
from launcher.runs.sweep import as_sweep, record_sweep, sweep_folder, tell_apart
from launcher.search.space import Dimension, parse_space
from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import LOSS, Metric

_NOT_IDENTITY = (
    *("search.trials=", "search.parallel=", "cluster", "tracker", "runs_dir="),
    *("dry_run=", "snapshot=", "rerun="),
)
"""Settings that do not define a search: the same search may continue with other values of them."""


def prepare(arguments: Sequence[str]) -> Search:
    """Return the search that a command line asks for, after checking every value of every list.

    Raises:
        ConfigurationError: optuna is missing, there is nothing to search over, or a value is invalid.
    """
    if not {"-m", "--multirun"} & set(arguments):
        raise ConfigurationError("search= needs -m, since a search is a sweep")
    try:
        import optuna
    except ImportError:
        raise ConfigurationError("search= needs optuna: pip install 'stochastic-gradient-push[search]'") from None
    fixed, space = parse_space([word for word in arguments if word not in ("-m", "--multirun")])
    first = [f"{dimension.key}={dimension.samples()[0]}" for dimension in space]
    options = None
    for number, dimension in enumerate(space):
        for sample in dimension.samples():
            others = [*first[:number], f"{dimension.key}={sample}", *first[number + 1 :]]
            [point] = compose([*fixed, *others])
            options = launch_options([point])
            try:
                make_plan(point)
            except ConfigurationError as error:
                raise ConfigurationError(f"{' '.join(others)}: {error}") from None
    assert options is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return Search(fixed, space, options, arguments)


class Search:
    """A source of plans: optuna chooses each from the results of the runs that have ended."""

    def __init__(
        self, fixed: list[str], space: list[Dimension], options: LaunchOptions, arguments: Sequence[str]
    ) -> None:
        assert options.search is not None
        self.options, self.settings = options, options.search
        self.total: int = self.settings.trials
        self._fixed, self._space, self._arguments = fixed, space, arguments
        self._identity = ["search", *(word for word in arguments if not word.startswith(_NOT_IDENTITY))]
        self.objective: Metric = LOSS  # until the study is open
        self._study: Any = None
        self._trials: dict[str, list[Any]] = {}
        self._unfinished: list[Any] = []

    def plan(self, values: dict[str, Any]) -> RunPlan:
        """Return the plan of a run with these values of the searched settings."""
        chosen = [f"{dimension.key}={dimension.format(values[dimension.key])}" for dimension in self._space]
        [point] = compose([*self._fixed, *chosen])
        [plan] = as_sweep([make_plan(point)], self._identity)
        return dataclasses.replace(plan, overrides=tuple(chosen), point=tell_apart([chosen])[0])

    def example(self) -> RunPlan:
        """Return a plan that the search could choose."""
        return self.plan({dimension.key: dimension.samples()[0] for dimension in self._space})

    def open(self) -> RunPlan:
        """Open the study, new or continued, and return an example of its plans."""
        from optuna import create_study
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        example = self.example()
        assert example.sweep is not None
        self.objective = search_objective(example.spec(), self.settings.metric, self.settings.direction)
        assert self.objective.direction is not None
        folder = sweep_folder(example.run_dir.parent, example.sweep)
        folder.mkdir(parents=True, exist_ok=True)
        self._study = create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.jsonl"))),
            study_name=example.sweep,
            direction=self.objective.direction.value,
            load_if_exists=True,
        )
        self._study.sampler = self._sampler(len(self._study.trials))
        self._unfinished = [trial for trial in self._study.trials if trial.state == TrialState.RUNNING]
        return example

    def next(self, running: int) -> RunPlan | None:
        """Return the plan of the next run; None if none is to be started now."""
        if running >= self.settings.parallel:
            return None
        if self._unfinished:  # of a command that was interrupted
            trial = self._unfinished.pop()
            number, values = trial.number, trial.params
        elif len(self._study.trials) < self.total:
            trial = self._study.ask({dimension.key: dimension.distribution() for dimension in self._space})
            number, values = trial.number, trial.params
        else:
            return None
        plan = self.plan(values)
        if self.options.snapshot:
            [plan] = with_code([plan], take=True)
        self._trials.setdefault(plan.run_id, []).append(number)
        ranked_by = {"metric": self.objective.name, "direction": str(self.objective.direction)}
        record_sweep([plan], ["sgp-train", *self._arguments], {**self.settings.to_dict(), **ranked_by})
        return plan

    def record_end(self, plan: RunPlan) -> None:
        """Tell the study the result of a run that has ended; a run that was interrupted has none yet."""
        from optuna.trial import TrialState

        [run] = read_runs(plan.run_dir.parent, [plan.run_id])
        if run.state not in ("completed", "failed"):
            return
        evaluation = evaluate(run, self.objective) if run.state == "completed" else None
        for number in self._trials.pop(plan.run_id, []):
            if evaluation is not None:
                self._study.tell(number, evaluation.best)
            else:
                self._study.tell(number, state=TrialState.FAIL)

    def best(self, example: RunPlan) -> str:
        """Return a sentence about the best values so far, as ``sgp table`` ranks them.

        Args:
            example: a run of the sweep.
        """
        assert example.sweep is not None
        folder = sweep_folder(example.run_dir.parent, example.sweep)
        runs = members(Sweep(example.sweep, read_json(folder / "sweep.json") or {}, folder))
        ranking = rank(runs, self.objective)
        best, label = ranking.best, self.objective.label
        if best is None or best.score is None:
            return f"no run has measured its {label} yet"
        evaluated = sum(evaluation is not None for evaluation in ranking.evaluations)
        score = format_sample(self.objective, best.score.mean, best.score.std, best.score.count)
        return f"best {label} of {evaluated}: {score} with {' '.join(runs[best.runs[0]].spec['overrides'])}"

    def _sampler(self, trials: int) -> Any:
        """Return a sampler; after so many ``trials``, a continued one must not draw their values again."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = (self.settings.seed + trials) % 2**32
        if isinstance(self.settings, RandomSearch):
            return RandomSampler(seed=seed)
        # constant_liar: no run is chosen close to one that is still running
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)

"""``extend=RUN``: a run that goes on where a completed one ended, with its settings unless others are given."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.earlier_runs import find_run_folder
from launcher.config.former_order import with_former_order
from launcher.config.trust import is_made_here, sets_code
from sgp_core.atomic_files import read_json
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import Experiment
from sgp_core.training.experiment import build_parts

_OPTION = "extend"
_MAY_DIFFER = ("training.epochs", "training.max_steps", "schedule", "extends")
_OF_THE_COMMAND = ("dry_run", "snapshot", "rerun", "search", "name", _OPTION)
"""Settings of the earlier command that are no settings of its run."""


@dataclass(frozen=True)
class EarlierRun:
    """A completed run, as far as one that extends it has to know.

    Attributes:
        made_here: whether this user has made the folder.
        step: of its last checkpoint.
        steps_per_epoch: None if it recorded no row by which to tell.
    """

    folder: Path
    experiment: Experiment
    overrides: Sequence[str]
    made_here: bool
    step: int
    steps_per_epoch: int | None

    def total_steps(self, experiment: Experiment) -> int | None:
        """Return the steps of a run on the same data, None if they are not known."""
        if self.steps_per_epoch is None:
            return None
        total = experiment.training.epochs * self.steps_per_epoch
        return min(total, experiment.training.max_steps or total)


def add_earlier_words(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line after those of the run that it extends, where it does not replace them.

    Raises:
        ConfigurationError: there is no such run; or its words run code, and another user has made it.
    """
    values = {key: value for key, sign, value in (word.partition("=") for word in arguments) if sign}
    if values.get(_OPTION) in (None, "", "null") or "," in values[_OPTION]:  # nothing, or a sweep
        return list(arguments)
    earlier = read_earlier_run(values[_OPTION], Path(values.get("runs_dir", "runs")))
    given = {_key(word) for word in arguments}
    kept = [word for word in earlier.overrides if _key(word) not in given and _key(word) not in _OF_THE_COMMAND]
    code = [word for word in kept if sets_code(_key(word))]
    if code and not earlier.made_here:
        raise ConfigurationError(
            f"{_OPTION}={values[_OPTION]}: you did not make this run here, and {code[0]} runs code; if you trust it,"
            " give that word yourself"
        )
    return [*kept, *arguments]


def read_earlier_run(given: str, runs_dir: Path) -> EarlierRun:
    """Return the run that ``extend`` names.

    Raises:
        ConfigurationError: there is none, it is not complete, or its files are damaged.
    """
    folder = find_run_folder(_OPTION, given, runs_dir.expanduser().absolute())
    spec, summary = read_json(folder / "spec.json") or {}, read_json(folder / "summary.json") or {}
    if summary.get("status") != "completed":
        raise ConfigurationError(
            f"{_OPTION}={given}: run {folder.name} is {summary.get('status') or 'not readable'}, not completed;"
            f" sgp resume {folder.name} continues it"
        )
    names = [path.parent.name for path in folder.glob("checkpoints/step-*/manifest.json")]
    steps = [int(name[5:]) for name in names if re.fullmatch(r"step-\d{1,15}", name, re.ASCII)]
    if not steps:
        raise ConfigurationError(f"{_OPTION}={given}: run {folder.name} has no checkpoint to go on from")
    try:
        experiment = Experiment.from_dict(with_former_order(spec["experiment"]))
        final = summary.get("final") or {}
        per_epoch = round(final["step"] / final["epoch"]) if final.get("epoch") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{_OPTION}={given}: {folder / 'spec.json'} cannot be read: {error}") from error
    overrides = [word for word in spec.get("overrides") or () if isinstance(word, str)]
    return EarlierRun(folder, experiment, overrides, is_made_here(spec, folder), max(steps), per_epoch)


def extend(experiment: Experiment, given: str, runs_dir: Path) -> Experiment:
    """Return the experiment of a run that is to go on where another one ended, in its order unless one is chosen.

    Raises:
        ConfigurationError: it is another experiment, or would end before it begins.
    """
    earlier = read_earlier_run(given, runs_dir)
    if earlier.folder.parent != runs_dir:
        raise ConfigurationError(
            f"{_OPTION}={given}: the run is not in {runs_dir}; extend it there: runs_dir={earlier.folder.parent}"
        )
    order = earlier.experiment.algorithm.get("order")
    if order is not None and experiment.algorithm.get("order", order) is None:
        experiment = dataclasses.replace(experiment, algorithm={**experiment.algorithm, "order": order})
    before, after = dict(_flat(earlier.experiment.identity())), dict(_flat(experiment.identity()))
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key) and not key.startswith(_MAY_DIFFER):
            raise ConfigurationError(
                f"{_OPTION}={given}: {key} is {before.get(key)} there and {after.get(key)} here; only "
                "training.epochs, training.max_steps and the schedule may differ"
            )
    total, before_total = earlier.total_steps(experiment), earlier.total_steps(earlier.experiment)
    if before_total is not None and earlier.step < before_total:
        raise ConfigurationError(
            f"{_OPTION}={given}: a callback ended run {earlier.folder.name} at step {earlier.step} of {before_total},"
            " and would end this one there, too"
        )
    if total is not None and total <= earlier.step:
        raise ConfigurationError(
            f"{_OPTION}={given}: run {earlier.folder.name} has trained {earlier.step} steps, and this one would end at"
            f" step {total}; give more training.epochs"
        )
    return dataclasses.replace(experiment, extends={"run": earlier.folder.name, "step": earlier.step})


def describe_extension(experiment: Experiment, runs_dir: Path) -> str:
    """Return a sentence about where a run that extends another begins, and what becomes of the learning rate."""
    assert experiment.extends is not None
    run, step = experiment.extends["run"], experiment.extends["step"]
    said = f"goes on from step {step} of {run}"
    try:
        earlier = read_earlier_run(run, runs_dir)
    except ConfigurationError:  # it was removed since
        return said
    totals = earlier.total_steps(earlier.experiment), earlier.total_steps(experiment)
    if earlier.steps_per_epoch is None or totals[0] is None or totals[1] is None:
        return said
    last = _rate(earlier.experiment, step - 1, earlier.steps_per_epoch, totals[0])
    following = _rate(experiment, step, earlier.steps_per_epoch, totals[1])
    schedule = experiment.schedule.get("class_name") or experiment.schedule["name"]
    follows = "" if following == last else f", since schedule={schedule} is now that of {totals[1]} steps"
    return f"{said}: the learning rate was {last:.3g} at that step and is {following:.3g} at the next{follows}"


def _rate(experiment: Experiment, step: int, steps_per_epoch: int, total: int) -> float:
    parts = build_parts(experiment)
    return parts.optimizer.lr * parts.schedule.factor(step, steps_per_epoch, total, experiment.world_size)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _key(word: str) -> str:
    """Return the setting or the group that a word of the command line is about."""
    found = re.match(r"[+~]*([\w./@]+)", word)
    return found[1] if found else word

"""The command line that runs a candidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.config.compose import compose
from launcher.config.run_plan import RunPlan
from launcher.planning.candidates import COMPARED, Candidate, complete, written
from launcher.planning.evaluation import cluster_words, scaled

_OF_ALL_ALGORITHMS = "unit"


def command_line(plan: RunPlan, words: Sequence[str], candidate: Candidate) -> list[str]:
    """Return the words of ``sgp-train`` that start an experiment as a candidate has it.

    Args:
        plan: the experiment as composed from ``words``.
        candidate: what it is to use instead.
    """
    _, cluster = scaled(plan, candidate.experiment.world_size)
    scale = cluster_words(plan.cluster, cluster)
    base = [word for word in words if word.partition("=")[0] not in {word.partition("=")[0] for word in scale}]
    if candidate.own:
        return ["sgp-train", *base, *scale]
    base = [word for word in base if not _chooses(word)]
    chosen = [f"{group}={getattr(candidate.experiment, group)['name']}" for group in _changed(plan, candidate)]
    settings = compose([*base, *chosen])[0].settings
    options = [word for group in _changed(plan, candidate) for word in _corrections(group, settings, candidate)]
    if candidate.step_in_backward != plan.cluster.step_in_backward:
        scale.append(f"cluster.step_in_backward={written(candidate.step_in_backward)}")
    return ["sgp-train", *base, *chosen, *options, *scale]


def _chooses(word: str) -> bool:
    """Whether a word is about what candidates differ in."""
    key = word.lstrip("+~").partition("=")[0]
    return key.partition(".")[0] in COMPARED and key != f"algorithm.{_OF_ALL_ALGORITHMS}"


def _changed(plan: RunPlan, candidate: Candidate) -> list[str]:
    """Return the groups in which a candidate differs from the plan."""
    pairs = {group: (getattr(plan.experiment, group), getattr(candidate.experiment, group)) for group in COMPARED}
    return [group for group, (own, new) in pairs.items() if complete(group, own) != complete(group, new)]


def _corrections(group: str, settings: Mapping[str, Any], candidate: Candidate) -> Iterator[str]:
    """Yield words for what a preset has set and the candidate has not, or otherwise."""
    wanted = complete(group, getattr(candidate.experiment, group))
    composed = settings.get(group) or {}
    for key, value in composed.items():
        if key not in wanted and key != _OF_ALL_ALGORITHMS:
            yield f"~{group}.{key}"
        elif key in wanted and written(value) != written(wanted[key]):
            yield f"{group}.{key}={written(wanted[key])}"

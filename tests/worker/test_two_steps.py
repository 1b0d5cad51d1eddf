"""Every small experiment, and every algorithm in every outer, takes two steps; pairs that cannot be say why."""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.config.compose import Point
from launcher.config.make_plan import make_plan
from launcher.config.schema import choices
from sgp_core.errors import ConfigurationError
from sgp_core.training.assembly import assemble
from sgp_core.training.config import Experiment
from sgp_core.training.peers import Peers
from sgp_core.training.step import TrainingStep
from tests.config.test_compose import NEEDED
from tests.config.test_presets import SMALL, plan
from tests.support.command_line import composed
from tests.support.workers import run_workers
from tests.training import tiny

WORLD = 2
IN_FULL_PRECISION = 1e-6

ASYNCHRONOUS = {(algorithm, outer) for algorithm in ("adpsgd", "asgp") for outer in choices("outer") if outer != "none"}
RELAYS = {("relaysgd", outer) for outer in choices("outer") if outer != "none"}
REFUSED = {
    **dict.fromkeys(ASYNCHRONOUS, "never wait for each other"),
    **dict.fromkeys(RELAYS, "is of models before that"),
}
"""Pairs that cannot be, and a word of the reason."""
PAIRS = sorted(set(product(choices("algorithm"), choices("outer"))) - set(REFUSED))


@cache
def settings(*overrides: str) -> dict[str, Any]:
    return composed(*overrides).settings


def pair(algorithm: str, outer: str) -> dict[str, Any]:
    """Return the experiment of an algorithm in an outer; composing each by itself is quicker than all pairs."""
    alone = settings(f"algorithm={algorithm}", *NEEDED.get(("algorithm", algorithm), []))
    chosen = {**alone, "outer": settings(f"outer={outer}")["outer"]}
    return make_plan(Point(chosen, {}, [])).experiment.to_dict()


def two_steps(experiments: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    """Take two steps of each; return the last loss, how far they moved, and how far apart the workers are then."""
    torch.set_num_threads(1)
    with tiny.known():
        return [_two_steps(Experiment.from_dict(values)) for values in experiments]


def _two_steps(experiment: Experiment) -> tuple[float, float, float]:
    parts = assemble(experiment, tiny.CPU, Peers(tiny.CPU))
    before = torch.cat([parameter.detach().flatten().clone() for parameter in parts.model.parameters()])
    criterion = partial(parts.task.loss, smoothing=experiment.training.label_smoothing)
    step = TrainingStep(parts.model, parts.optimizer, parts.gossip, criterion, experiment.training)
    total = parts.sampler.steps_per_epoch * experiment.training.epochs
    for number, indices in enumerate(parts.sampler.indices(0)[:2]):
        factor = parts.chosen.schedule.factor(number, parts.sampler.steps_per_epoch, total, WORLD)
        for group in parts.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        loss = float(step(parts.task.batch(indices, torch.Generator().manual_seed(number))))
    apart = parts.gossip.consensus_distance()
    parts.gossip.finish()
    after = torch.cat([parameter.detach().flatten() for parameter in parts.model.parameters()])
    return loss, float((after - before).norm()), apart


def quick(experiment: dict[str, Any], **choices: Any) -> dict[str, Any]:
    """Return it for two workers, with periods so short that two steps see their end."""
    changed = {**experiment, **choices, "world_size": WORLD}
    for group in ("algorithm", "outer"):
        short = {name: min(value, 2) for name, value in changed[group].items() if name in ("tau", "period")}
        changed[group] = {**changed[group], **short}
    return changed


@pytest.mark.parametrize(
    ("names", "reason"), sorted(REFUSED.items()), ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_pairs_that_cannot_be_say_why(names: tuple[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        pair(*names)


def test_every_other_pair_takes_two_steps() -> None:
    small = {"model": {"name": "noisy"}, "dataset": {"name": "blobs"}}
    found = run_workers(WORLD, two_steps, [quick(pair(*names), **small) for names in PAIRS])
    for (algorithm, outer), *ranks in zip(PAIRS, *found, strict=True):
        for loss, moved, apart in ranks:
            assert math.isfinite(loss), (algorithm, outer)
            assert moved > 0, (algorithm, outer)
            if outer != "none":  # the second step ends a block
                assert apart < IN_FULL_PRECISION, (algorithm, outer)


def test_every_small_experiment_takes_two_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sgp_core.tasks.images.datasets.cifar.Cifar10.check", lambda self: None)
    monkeypatch.setattr("sgp_core.tasks.language_modelling.datasets.debian_docs.PythonDocs.check", lambda self: None)
    names = [*SMALL, "smoke", "translation_small", "language_small", "noloco_small"]
    experiments: list[dict[str, Any]] = []
    trained: set[str] = set()
    for name in names:
        experiment = plan(name).experiment.to_dict()
        dataset, training = dict(experiment["dataset"]), dict(experiment["training"])
        heavy = repr((experiment["model"], dataset))
        if heavy in trained:  # once: what is new about the others is how workers agree
            small = {"model": {"name": "noisy", "hidden": True}, "dataset": {"name": "blobs"}}
            experiments.append(quick(experiment, **small, training={**training, "batch_size": 8}))
            continue
        trained.add(heavy)
        if dataset["name"] == "python_docs":  # not installed everywhere; the verses are shorter
            dataset = {"name": "text", "vocabulary": 1024, "context": dataset["context"]}
            training["batch_size"] = 8
        if dataset["name"] in ("verses", "text"):
            dataset["cache"] = str(tmp_path)
        else:
            training["batch_size"] = 8
        if dataset["name"] == "cifar10":  # images of its size; the data themselves are not at hand
            dataset = {"name": "synthetic_images", "image_size": 32}
        experiments.append(quick(experiment, dataset=dataset, training=training))
    found = run_workers(WORLD, two_steps, experiments)
    for name, *ranks in zip(names, *found, strict=True):
        for loss, moved, apart in ranks:
            assert math.isfinite(loss), name
            assert moved > 0, name
            if "slowmo" in name and "noaverage" not in name:
                assert apart < IN_FULL_PRECISION, name

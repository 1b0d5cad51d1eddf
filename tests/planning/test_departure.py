"""How far a candidate departs from AllReduce's trajectory."""

from __future__ import annotations

import math

import pytest

from launcher.planning.departure import changes_of, distance_of
from launcher.planning.question import compose_plan, experiment_words
from sgp_core.training.experiment import ExperimentParts, build_parts

WORKERS, TAU = 4, 50


def parts_of(*outer: str) -> ExperimentParts:
    words = ["model=mlp", f"cluster.workers_per_node={WORKERS}", "algorithm=local_sgd", "algorithm.period=0"]
    return build_parts(compose_plan(experiment_words([*words, "outer=diloco", f"outer.tau={TAU}", *outer])).experiment)


@pytest.mark.parametrize(("words", "kept"), [((), 0.0), (("outer.overlap=5",), 0.5), (("outer.mix=0.25",), 0.25)])
def test_what_workers_keep_of_their_own_adds_to_their_distance(words: tuple[str, ...], kept: float) -> None:
    fragments = ("outer.fragments=4", *words)
    left = kept**2 * TAU / (1 - kept**2)  # after an average: kept^2 of as much before it
    expected = math.sqrt((left + (TAU - 1) / 2) * (1 - 1 / WORKERS))
    assert distance_of(parts_of(*fragments)) == pytest.approx(expected)
    assert changes_of(parts_of(*fragments)) == ["outer"]


def test_codes_of_an_outer_step_are_told() -> None:
    assert changes_of(parts_of("outer.compression=int4")) == ["compressed", "outer"]

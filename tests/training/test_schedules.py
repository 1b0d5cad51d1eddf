"""Schedules are pure functions of the step, with the numbers of the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.training.schedules import SCHEDULES, LearningRateSchedule
from tests.training import tiny

EPOCH = 157  # steps


def rates(
    schedule: LearningRateSchedule, base: float, epochs: list[float], world_size: int, total: int = 90
) -> list[float]:
    return [base * schedule.factor(round(e * EPOCH), EPOCH, total * EPOCH, world_size) for e in epochs]


def test_imagenet_schedule_of_thirty_two_nodes() -> None:
    schedule = SCHEDULES.build("step", warmup_epochs=5, scale_with_workers=True)
    epochs = [0, 1, 2.5, 5, 29.99, 30, 59.99, 60, 79.99, 80, 89.9]
    warm = [0.1 + 3.1 * 157 / 785, 0.1 + 3.1 * round(2.5 * 157) / 785]
    expected = [0.1, *warm, 3.2, 3.2, 0.32, 0.32, 0.032, 0.032, 0.0032, 0.0032]
    assert rates(schedule, 0.1, epochs, world_size=32) == pytest.approx(expected, rel=1e-12)


def test_linear_scaling_leaves_one_worker_alone() -> None:
    schedule = SCHEDULES.build("step", warmup_epochs=5, scale_with_workers=True)
    assert rates(schedule, 0.1, [0, 2, 5, 29], world_size=1) == pytest.approx([0.1] * 4)


def test_without_scaling_the_workers_do_not_matter() -> None:
    schedule = SCHEDULES.build("step", warmup_epochs=2, decay_epochs=[4.0, 4.5], decay=0.5)
    expected = [0.01, 0.055, 0.1, 0.1, 0.05, 0.025]
    assert rates(schedule, 0.1, [0, 1, 2, 3, 4, 5], world_size=8) == pytest.approx(expected)


def test_cosine_goes_from_the_target_to_the_final_factor() -> None:
    schedule = SCHEDULES.build("cosine", final_factor=0.1)
    factors = [schedule.factor(step, 10, 100, 4) for step in (0, 25, 50, 75, 100, 150)]
    assert factors == pytest.approx([1.0, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2, 0.55, 0.231801948466, 0.1, 0.1])


def test_cosine_warms_up_first() -> None:
    schedule = SCHEDULES.build("cosine", warmup_epochs=2.5, warmup_start=0.0, scale_with_workers=True)
    factors = [schedule.factor(step, 10, 125, 4) for step in (0, 5, 24, 25, 75, 125)]
    assert factors == pytest.approx([0, 0.8, 3.84, 4.0, 2.0, 0.0])


def test_last_step_of_cosine_still_moves() -> None:
    assert 0 < SCHEDULES.build("cosine").factor(119, 12, 120, 4) < 1e-3


def test_run_shorter_than_its_warm_up_is_all_warm_up() -> None:
    schedule = SCHEDULES.build("cosine", warmup_epochs=5)
    assert [schedule.factor(step, 10, 20, 1) for step in (0, 10, 19)] == pytest.approx([0.1, 0.28, 0.442])


def test_inverse_square_root_of_the_transformer() -> None:
    schedule = SCHEDULES.build("inverse_square_root")
    rates = [5e-4 * schedule.factor(step, 100, 10**6, 8) for step in (0, 2000, 4000, 16000, 100_000)]
    assert rates == pytest.approx([1e-7, 1e-7 + (5e-4 - 1e-7) / 2, 5e-4, 2.5e-4, 1e-4])


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_inverse_square_root_is_the_papers_formula(step: int, warmup: int) -> None:
    """Vaswani et al. 2017, equation 3, with the highest rate as the base: its width only scales."""
    schedule = SCHEDULES.build("inverse_square_root", warmup_steps=warmup, warmup_start=0.0)
    paper = 512**-0.5 * min(step**-0.5, step * warmup**-1.5)
    assert 512**-0.5 * warmup**-0.5 * schedule.factor(step, 100, 10**7, 8) == pytest.approx(paper)


@pytest.mark.parametrize("name", ["cosine", "step", "warmup_stable_decay"])
def test_warm_up_counts_steps_as_well_as_epochs(name: str) -> None:
    by_epochs = SCHEDULES.build(name, warmup_epochs=2.5, warmup_start=0.2)
    by_steps = SCHEDULES.build(name, warmup_steps=25, warmup_start=0.2)
    steps = (0, 1, 24, 25, 26, 60, 119)
    assert [by_steps.factor(step, 10, 120, 4) for step in steps] == [
        by_epochs.factor(step, 10, 120, 4) for step in steps
    ]
    assert by_steps.factor(24, 10, 120, 4) == by_steps.factor(24, 7, 120, 4) == pytest.approx(0.2 + 0.8 * 24 / 25)


def test_a_run_without_warm_up_steps_keeps_its_id() -> None:
    experiment = tiny.experiment(choices={"schedule": {"name": "cosine"}})
    assert "warmup_steps" not in experiment.identity()["schedule"]
    assert "fused" not in experiment.identity()["optimizer"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shape": "linear"}, [0.1, 0.55, 1.0, 1.0, 1.0, 0.75, 0.5, 0.05, 0.0]),
        ({"shape": "linear", "final_factor": 0.2}, [0.1, 0.55, 1.0, 1.0, 1.0, 0.8, 0.6, 0.24, 0.2]),
        ({}, [0.1, 0.55, 1.0, 1.0, 1.0, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.95), 0.0]),
        ({"decay_steps": 10}, [0.1, 0.55, 1.0, 1.0, 1.0, 1.0, 1.0, 1 - math.sqrt(0.9), 0.0]),
        ({"decay_share": 0.0}, [0.1, 0.55, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_warmup_stable_decay(options: dict[str, Any], expected: list[float]) -> None:
    schedule = SCHEDULES.build("warmup_stable_decay", warmup_steps=10, **options)
    factors = [schedule.factor(step, 7, 100, 4) for step in (0, 5, 10, 50, 80, 85, 90, 99, 100)]
    assert factors == pytest.approx(expected)


@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 400), st.integers(1, 64))
def test_the_constant_stretch_does_not_know_how_long_a_run_is(step: int, warmup: int, decay: int, workers: int) -> None:
    schedule = SCHEDULES.build("warmup_stable_decay", warmup_steps=warmup, decay_steps=decay, scale_with_workers=True)
    long = schedule.factor(step, 10, 10_000, workers)
    if step <= 400 - decay:
        assert schedule.factor(step, 10, 400, workers) == long
    assert schedule.factor(step + 1, 10, 400, workers) <= max(long, workers)


def test_constant() -> None:
    assert {SCHEDULES.build("constant").factor(step, 10, 100, 4) for step in (0, 50, 99)} == {1.0}


@given(
    st.sampled_from(sorted({*SCHEDULES.names()} - {"torch"})),  # that one: test_torch_choices.py
    st.integers(0, 2000),
    st.integers(1, 50),
    st.integers(1, 2000),
    st.integers(1, 64),
    st.floats(0, 20),
)
def test_factor_is_finite_and_between_zero_and_the_target(
    name: str, step: int, epoch: int, total: int, workers: int, warmup: float
) -> None:
    options: dict[str, Any] = {}
    if "warmup_epochs" in SCHEDULES.options(name):
        options = {"warmup_epochs": warmup, "scale_with_workers": True}
    factor = SCHEDULES.build(name, **options).factor(step, epoch, total, workers)
    assert 0 <= factor <= (workers if options else 1) + 1e-9


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("step", {"decay": 0.0}, "schedule.decay must be"),
        ("step", {"decay_epochs": [60.0, 30.0]}, "schedule.decay_epochs must be positive and rising"),
        ("step", {"decay_epochs": [0.0, 30.0]}, "schedule.decay_epochs must be positive and rising"),
        ("step", {"warmup_epochs": -1.0}, "schedule.warmup_epochs"),
        ("cosine", {"warmup_start": -1.0}, "schedule.warmup_start"),
        ("cosine", {"final_factor": 2.0}, "schedule.final_factor"),
        ("inverse_square_root", {"warmup_steps": 0}, "schedule.warmup_steps"),
        ("cosine", {"warmup_steps": -1}, "schedule.warmup_steps must be at least 0"),
        ("step", {"warmup_steps": 3, "warmup_epochs": 1.0}, "both say how long warm-up takes"),
        ("warmup_stable_decay", {"shape": "1-sqr"}, "schedule.shape cannot be '1-sqr'; did you mean '1-sqrt'"),
        ("warmup_stable_decay", {"decay_share": 1.5}, "schedule.decay_share must be in"),
        ("warmup_stable_decay", {"decay_steps": -1}, "schedule.decay_steps must be at least 0"),
        ("constant", {"warmup_epochs": 1}, "has no option 'warmup_epochs'"),
    ],
)
def test_options_out_of_range_are_named(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SCHEDULES.build(name, **options)

"""Schedules are pure functions of the step, with the numbers of the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.training.schedules import SCHEDULES, LearningRateSchedule

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
        ("constant", {"warmup_epochs": 1}, "has no option 'warmup_epochs'"),
    ],
)
def test_options_out_of_range_are_named(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SCHEDULES.build(name, **options)

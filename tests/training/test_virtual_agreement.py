"""Virtual workers have the losses of processes, in float64. ``python -m tests.workers.virtual`` runs all algorithms."""

from __future__ import annotations

import pytest

from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.support.workers import run_workers
from tests.workers import virtual


def test_losses_are_those_of_eight_processes(tmp_path):
    cases, steps = (
        [{"algorithm": {"name": "gradient_tracking"}, "outer": {"name": "slowmo", "tau": 5}}, *virtual.MORE],
        14,
    )
    real = run_workers(virtual.WORKERS, virtual.run_processes, cases, steps, str(tmp_path))[0]
    for case, rows, simulated in zip(cases, real, virtual.run_virtual(cases, steps, str(tmp_path)), strict=True):
        apart = virtual.difference(rows, simulated)
        validation = [value for key, value in apart.items() if key.startswith("validation")]
        assert max(validation) < 1e-5, case  # the task computes it in float32
        others = {key: value for key, value in apart.items() if not key.startswith("validation")}
        assert max(others.values()) < virtual.CLOSE, (case, others)


@pytest.mark.parametrize(("number", "simulated"), [(1, False), (5, True)])
def test_the_command_line_is_given_the_same_experiment(number, simulated):
    case = virtual.MORE[number]
    [plan] = make_plans(compose(virtual.words(case, 14, virtual=simulated)))
    assert plan.experiment.fingerprint() == virtual.experiment(case, 14).fingerprint()
    assert plan.cluster.virtual is simulated

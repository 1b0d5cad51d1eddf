"""Every registered transport keeps the promises of the interface; between CPUs, a stand-in for GPUs included."""

from __future__ import annotations

import pytest

from sgp_core.transports.registry import TRANSPORTS, find_transport
from tests.support.workers import run_workers
from tests.workers import transport_contract

STAND_INS = ("symmetric_memory",)
"""Transports between GPUs that the workers of these tests run on CPUs, over a fabric of processes."""
ON_CPUS = [name for name in TRANSPORTS.names() if "cpu" in find_transport(name).devices]
VICTIM = 1


@pytest.fixture(scope="module", params=sorted({*ON_CPUS, *STAND_INS}))
def errors(request):
    return run_workers(transport_contract.WORKERS, transport_contract.errors, request.param)


@pytest.mark.parametrize("case", [case.__name__ for case in transport_contract.CASES])
def test_vectors_and_weights_are_mixed_by_the_matrix(errors, case):
    assert max(rank[case] for rank in errors) <= 1e-12


@pytest.mark.parametrize("overlap_steps", [0, 1])
@pytest.mark.parametrize("name", ON_CPUS)
def test_a_worker_that_misses_a_peer_says_which_and_when(name, overlap_steps):
    arguments = (name, VICTIM, overlap_steps)
    _check_lost(run_workers(transport_contract.WORKERS, transport_contract.lose_a_peer, *arguments, killed=[VICTIM]))


def test_a_worker_that_misses_the_weight_of_a_peer_says_which_and_when():
    lose = transport_contract.lose_a_peer_that_sends_weights
    _check_lost(run_workers(transport_contract.WORKERS, lose, VICTIM, killed=[VICTIM]))


def _check_lost(found):
    assert len(found) == transport_contract.WORKERS - 1
    for lost in found:
        assert lost["rank"] == lost["me"]
        assert lost["step"] >= 1
    assert any(lost["peers"] == (VICTIM,) for lost in found), "some may miss one that ended because of the first"

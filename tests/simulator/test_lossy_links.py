"""Asynchronous SGP of virtual workers over links with faults: shares that are sent again lose no mass."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sgp_core
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.simulator.trajectory import Trajectory
from tests.workers.agreement import Irregular

WORKERS, STEPS = 6, 60
BAD = LinkFaults(drop=0.3, duplicate=0.3, delay=0.5, delay_steps=10, reorder=0.2)
TOPOLOGIES = ("one_peer_exponential", "exponential", "complete", "irregular")
probabilities = st.floats(0.0, 0.8)


def run(
    faults: LinkFaults | None,
    topology: str = "one_peer_exponential",
    *,
    lr: float = 0.0,
    dtype: torch.dtype = torch.float64,
    steps: int = STEPS,
    **options: object,
) -> Trajectory:
    """Average random numbers; with a learning rate, pull them towards twice their mean."""
    graph = Irregular(WORKERS) if topology == "irregular" else sgp_core.build_topology(topology, world_size=WORKERS)
    initial = torch.randn(WORKERS, 20, dtype=dtype, generator=torch.Generator().manual_seed(3))
    return sgp_core.simulate(
        sgp_core.build_algorithm("asgp", **options),
        graph,
        initial,
        lambda z, step: z - 2 * initial.mean(0),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        steps=steps,
        link_faults=faults,
    )


def defects(trajectory: Trajectory) -> tuple[Tensor, Tensor]:
    """Return by how much the sums of numerators and of weights differ from those at the start, at most over the run."""
    x, w = trajectory.x.sum(1) + trajectory.x_in_flight, trajectory.w.sum(1) + trajectory.w_in_flight
    return (x - x[0]).abs().max(), (w - w[0]).abs().max()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(probabilities, probabilities, probabilities, st.integers(1, 10), probabilities, st.integers(0, 9))
def test_whatever_links_do_models_and_shares_under_way_hold_the_whole_mass(drop, double, delay, most, reorder, seed):
    faults = LinkFaults(drop, double, delay, most, reorder, seed)
    trajectory = run(faults, TOPOLOGIES[seed % len(TOPOLOGIES)])
    assert max(defects(trajectory)) <= 1e-12
    assert trajectory.w.min() > 0


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_mean_is_reached_over_bad_links(topology):
    trajectory = run(BAD, topology, steps=300)
    mean = trajectory.x[0].mean(0)
    assert (trajectory.z[-1] - mean).abs().max() <= 0.05 * (trajectory.z[0] - mean).abs().max()


def test_in_float32_only_rounding_is_left_and_it_does_not_grow():
    x, w = defects(run(BAD, dtype=torch.float32, steps=300))
    assert w <= 1e-12, "weights are float64"
    assert x <= 1e-5


@pytest.mark.parametrize("topology", ["one_peer_exponential", "irregular"])
@pytest.mark.parametrize("retransmit", [None, False])
def test_over_links_without_faults_it_is_the_plain_rule_to_the_bit(topology, retransmit):
    plain, same = (run(faults, topology, lr=0.1, retransmit=retransmit) for faults in (None, LinkFaults()))
    assert torch.equal(plain.z, same.z)
    assert torch.equal(plain.w, same.w)
    assert (plain.x_in_flight - same.x_in_flight).abs().max() <= 1e-12, "summed in another order"


def test_without_retransmission_mass_leaks():
    faults = LinkFaults(drop=0.05)
    assert defects(run(faults, "complete", retransmit=False))[1] > 0.1
    assert defects(run(faults, "complete"))[1] <= 1e-12


def test_without_retransmission_what_comes_twice_counts_twice():
    trajectory = run(LinkFaults(duplicate=0.2), retransmit=False)
    assert (trajectory.w.sum(1) + trajectory.w_in_flight).max() > WORKERS + 1


def test_training_converges_over_bad_links():
    trajectory = run(BAD, lr=0.1, steps=300)
    assert (trajectory.z[-1] - 2 * trajectory.x[0].mean(0)).abs().max() <= 1e-6


def test_algorithms_that_wait_for_each_message_are_refused():
    graph = sgp_core.build_topology("ring", world_size=3)
    with pytest.raises(sgp_core.ConfigurationError, match=r"algorithm 'sgp' waits .* algorithm 'asgp'"):
        sgp_core.simulate(
            sgp_core.build_algorithm("sgp"), graph, torch.ones(3, 1), lambda z, step: z, steps=1, link_faults=BAD
        )

"""Real workers exchange in the rounds of a tournament: every two hosts, both ways; one without opponent rests."""

from __future__ import annotations

from itertools import permutations

import torch

from sgp_core.calibration.exchanges import Places
from sgp_core.calibration.pairs import measure_pairs
from sgp_core.training.peers import Peers
from tests.support.workers import run_workers


def reach(per_host: int) -> list[tuple[int, int, float, float]]:
    peers = Peers(torch.device("cpu"))
    found = measure_pairs(peers, torch.device("cpu"), Places(peers.world_size, per_host), 0.3)
    return [tuple(one) for one in found]


def test_every_two_hosts_are_measured_alike_on_all_workers() -> None:
    """Six workers are three hosts of two; the figures are those of a busy machine, so only their signs are tested."""
    first, *others = run_workers(6, reach, 2)
    assert all(other == first for other in others)
    assert [ends[:2] for ends in first] == list(permutations(range(3), 2))
    assert all(rate > 0 and delay >= 0 for _, _, rate, delay in first)

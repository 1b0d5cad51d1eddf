"""The algorithm in the simulator: 8 workers in this process, no launcher."""

from pathlib import Path

import torch

import sgp_core
from sgp_core.plugins import load_plugins

PROJECT = Path(__file__).parents[1]
load_plugins([PROJECT / "algorithm.py"])


def test_mass_is_conserved_and_workers_agree() -> None:
    graph = sgp_core.build_topology("directed_linear", world_size=8)
    algorithm = sgp_core.build_algorithm("damped_sgp", gamma=0.5)
    initial = torch.arange(8.0).unsqueeze(1)
    run = sgp_core.simulate(algorithm, graph, initial, lambda z, step: torch.zeros_like(z), steps=200)
    assert torch.allclose(run.x.sum(dim=1), initial.sum(dim=0).expand(201, 1))
    assert torch.allclose(run.w.sum(dim=1), torch.full((201,), 8.0, dtype=torch.float64))
    assert torch.allclose(run.z[-1], torch.full((8, 1), 3.5), atol=1e-3)


def test_gamma_is_the_share_of_the_average() -> None:
    graph = sgp_core.build_topology("ring", world_size=4)
    initial = torch.tensor([[0.0], [3.0], [6.0], [9.0]])
    algorithm = sgp_core.build_algorithm("damped_sgp", gamma=0.5)
    run = sgp_core.simulate(algorithm, graph, initial, lambda z, step: torch.zeros_like(z), steps=1)
    mixing = torch.from_numpy(graph.mixing_matrix(0)).float()
    assert torch.allclose(run.z[1], 0.5 * initial + 0.5 * mixing @ initial)

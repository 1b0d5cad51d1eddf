"""Rules against closed forms and published values, in the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import sgp_core
from sgp_core.simulator import simulate
from sgp_core.simulator.network import SimulatedNetwork
from sgp_core.topology import Topology
from tests.support.published import CONSENSUS_RMS


def quadratic(algorithm, steps, lr, optimizer=None, rate=None):
    """One worker on f(x) = x^2 / 2 from x = 1; returns x after every step."""
    run = sgp_core.simulate(
        algorithm,
        sgp_core.build_topology("complete", world_size=1),
        torch.ones(1, 1, dtype=torch.float64),
        lambda z, step: z,
        optimizer=optimizer or (lambda p: torch.optim.SGD(p, lr=lr)),
        steps=steps,
        lr=rate,
    )
    return run.z.flatten()


def outer(name, **options):
    return sgp_core.build_outer(name, sgp_core.build_algorithm("local_sgd", period=0), **options)


@pytest.mark.parametrize(("topology", "rms"), CONSENSUS_RMS)
def test_consensus_of_sixteen_workers_on_shifted_quadratics(topology, rms):
    """f_i(x) = (x - b_i)^2 / 2, b = 0..15, step 0.1: the mean goes to mean(b), the spread to a closed form."""
    b = torch.arange(16, dtype=torch.float64).unsqueeze(1)
    graph = sgp_core.build_topology(topology, world_size=16)
    algorithm = sgp_core.build_algorithm("dpsgd")
    run = sgp_core.simulate(algorithm, graph, torch.zeros(16, 1, dtype=torch.float64), lambda z, s: z - b, steps=4000)
    last = run.z[-len(rms) :, :, 0]
    spread = (last - last.mean(1, keepdim=True)).square().mean(1).sqrt()
    torch.testing.assert_close(spread, torch.tensor(rms, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(run.mean[-1], torch.tensor([7.5], dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["allreduce", "sgp", "dpsgd", "local_sgd"])
def test_with_equal_curvature_the_average_model_does_not_depend_on_the_algorithm(name):
    noise = torch.randn(60, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph = sgp_core.build_topology("one_peer_exponential", world_size=8)
    initial = torch.zeros(8, 5, dtype=torch.float64)
    run = sgp_core.simulate(sgp_core.build_algorithm(name), graph, initial, lambda z, s: z + noise[s], steps=60)
    x, expected = torch.zeros(5, dtype=torch.float64), []
    for step in range(60):
        x = x - 0.1 * (x + noise[step].mean(0))
        expected.append(x)
    torch.testing.assert_close(run.mean[1:], torch.stack(expected), rtol=0, atol=1e-14)


def test_slowmo_on_a_quadratic():
    at_blocks = quadratic(outer("slowmo", tau=48, beta=0.6), 4 * 48, 0.01)[::48][1:]
    expected = torch.tensor([0.61729, 0.151421, -0.186051, -0.317330], dtype=torch.float64)
    torch.testing.assert_close(at_blocks, expected, rtol=0, atol=1e-6)


def test_slowmo_with_tau_one_is_heavy_ball():
    slow = quadratic(outer("slowmo", tau=1, beta=0.7), 50, 0.1)
    heavy = quadratic(
        sgp_core.build_algorithm("local_sgd", period=0), 50, 0.1, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7)
    )
    torch.testing.assert_close(slow, heavy, rtol=0, atol=1e-15)


def test_slowmo_without_slow_momentum_is_the_base():
    plain = quadratic(sgp_core.build_algorithm("local_sgd", period=0), 36, 0.1)
    torch.testing.assert_close(quadratic(outer("slowmo", tau=12, beta=0.0), 36, 0.1), plain, rtol=0, atol=1e-15)
    assert quadratic(outer("slowmo", tau=12, beta=0.0), 12, 0.1)[-1] == pytest.approx(0.28243, abs=1e-6)


def test_slowmo_is_independent_of_how_the_learning_rate_changes():
    """Against the paper's form, which divides by the rate, over a schedule that changes between blocks."""
    rates = [0.02, 0.05, 0.01, 0.03]
    run = quadratic(outer("slowmo", tau=6, beta=0.6, alpha=0.9), 24, 0.02, rate=lambda step: rates[step // 6])
    x, u, expected = 1.0, 0.0, []
    for rate in rates:
        end = x * (1 - rate) ** 6
        u = 0.6 * u + (x - end) / rate
        x = x - 0.9 * rate * u
        expected.append(x)
    torch.testing.assert_close(run[::6][1:], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


def test_slowmo_survives_a_learning_rate_of_zero():
    """At rate 0 nothing moves and u decays by beta, exactly as the paper's equations have it."""
    rates = [0.05, 0.0, 0.05]
    run = quadratic(outer("slowmo", tau=4, beta=0.6), 12, 0.05, rate=lambda step: rates[step // 4])
    first = 1 - (1 - 0.95**4)
    assert run[4] == pytest.approx(first, abs=1e-15)
    assert run[8] == run[4]
    u = 0.6 * 0.6 * (1 - 0.95**4) / 0.05 + (first - first * 0.95**4) / 0.05
    assert run[12] == pytest.approx(first - 0.05 * u, abs=1e-14)


@pytest.mark.parametrize(("momentum", "x8"), [(0.0, 0.075081), (0.3, 0.011544), (0.5, -0.016757), (0.9, 0.033096)])
def test_diloco_on_a_quadratic(momentum, x8):
    assert quadratic(outer("diloco", tau=50, momentum=momentum), 400, 0.01)[-1] == pytest.approx(x8, abs=1e-6)


def test_diloco_is_torch_nesterov_on_the_outer_gradient():
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    nesterov = torch.optim.SGD([x], lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(5):
        x.grad = x.detach() * (1 - 0.98**10)
        nesterov.step()
    assert quadratic(outer("diloco", tau=10), 50, 0.02)[-1] == pytest.approx(x.item(), abs=1e-15)


class CountingNetwork(SimulatedNetwork):
    """Counts exact averages."""

    means = 0

    def mean(self, x):
        """Average, and count."""
        CountingNetwork.means += 1
        super().mean(x)


@pytest.mark.parametrize(("period", "means"), [(0, 3), (4, 3), (2, 6), (3, 4 + 3 - 1)])
def test_an_outer_over_local_sgd_averages_once_where_the_periods_meet(monkeypatch, period, means):
    monkeypatch.setattr(simulate, "SimulatedNetwork", CountingNetwork)
    CountingNetwork.means = 0
    base = sgp_core.build_algorithm("local_sgd", period=period)
    quadratic(sgp_core.build_outer("slowmo", base, tau=4), 12, 0.1)
    assert CountingNetwork.means == means


def test_workers_that_moved_on_without_averaging_are_averaged_by_the_next_rule():
    """Local SGD has just averaged, then SlowMo without averages moves every worker its own way: they differ again."""
    base = sgp_core.build_algorithm("local_sgd", period=4)
    own = sgp_core.build_outer("slowmo", base, tau=2, exact_average=False)
    nested = sgp_core.build_outer("bmuf", own, tau=4, momentum=0.0)
    b = torch.arange(4, dtype=torch.float64).unsqueeze(1)
    graph = sgp_core.build_topology("complete", world_size=4)
    run = sgp_core.simulate(nested, graph, torch.zeros(4, 1, dtype=torch.float64), lambda z, s: z - b, steps=8)
    assert run.consensus_distance[6] > 0
    assert run.consensus_distance[8] == 0


def test_bmuf_with_classical_momentum_is_slowmo_with_alpha_one():
    slow = quadratic(outer("slowmo", tau=9, beta=0.4), 45, 0.05)
    torch.testing.assert_close(quadratic(outer("bmuf", tau=9, momentum=0.4), 45, 0.05), slow, rtol=0, atol=1e-15)


def test_bmuf_nesterov_follows_its_recursion():
    eta, zeta, r = 0.5, 0.8, 0.95**6
    w = w_g = 1.0
    delta, expected = 0.0, []
    for _ in range(5):
        delta = eta * delta + zeta * (w_g * r - w_g)
        w = w + delta
        w_g = w + eta * delta
        expected.append(w_g)
    run = quadratic(outer("bmuf", tau=6, momentum=eta, lr=zeta, nesterov=True), 30, 0.05)
    torch.testing.assert_close(run[::6][1:], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


@dataclass(frozen=True)
class ThreeNodes(Topology):
    """0 -> {1, 2}, 1 -> {2}, 2 -> {0}: strongly connected, not regular."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [[1, 2], [2], [0]][rank]


@dataclass(frozen=True)
class RandomDigraph(Topology):
    """A one-way ring for connectivity plus random extra edges, of any degree."""

    seed: int = 0

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        n = self.world_size
        extra = torch.rand(n, n, generator=torch.Generator().manual_seed(self.seed))[rank] < 0.3
        return [j for j in range(n) if j != rank and (extra[j] or j == (rank + 1) % n)]


def _average(algorithm, graph, initial, steps):
    still = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0), "steps": steps}
    return sgp_core.simulate(algorithm, graph, initial, lambda z, step: torch.zeros_like(z), **still)


class PlainAveraging(type(sgp_core.build_algorithm("dpsgd"))):
    """Mixing without weights, where it does not belong."""

    def check(self, topology):
        """Accept anything."""


def test_pushsum_removes_the_bias_of_three_nodes():
    initial = torch.tensor([[0.0], [3.0], [6.0]], dtype=torch.float64)
    run = _average(sgp_core.build_algorithm("sgp"), ThreeNodes(3), initial, 60)
    torch.testing.assert_close(run.w[-1], torch.tensor([1, 2 / 3, 4 / 3], dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(run.x[-1].flatten(), torch.tensor([3.0, 2.0, 4.0], dtype=torch.float64))
    for step, error in ((5, 1.27e-2), (10, 9.8e-6), (20, 3.5e-11)):
        assert (run.z[step] - 3).abs().max() == pytest.approx(error, rel=0.05)
    plain = _average(PlainAveraging(), ThreeNodes(3), initial, 60)
    assert (plain.z[-1] - 3).abs().max() > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_pushsum_reaches_the_true_mean_of_random_irregular_digraphs(seed):
    n = 5 + 3 * seed
    initial = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    graph = RandomDigraph(n, seed)
    pushed = _average(sgp_core.build_algorithm("sgp"), graph, initial, 400)
    plain = _average(PlainAveraging(), graph, initial, 400)
    mean = initial.mean(0)
    assert (pushed.z[-1] - mean).abs().max() < 1e-12
    assert (plain.z[-1] - mean).abs().max() > 1e-2


def test_weight_decay_acts_on_z_while_the_update_lands_on_x():
    """SGP line 4: x <- x - lr (g + decay z). With w away from 1 the two differ, so the order matters."""
    graph, lr, decay = ThreeNodes(3), 0.1, 0.5
    initial = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        graph,
        initial,
        lambda z, step: z * 0.3,
        optimizer=lambda p: torch.optim.SGD(p, lr=lr, weight_decay=decay),
        steps=10,
    )
    p = torch.from_numpy(graph.mixing_matrix(0))
    x, w = initial.clone(), torch.ones(3, 1, dtype=torch.float64)
    for _ in range(10):
        z = x / w
        x, w = p @ (x - lr * (0.3 + decay) * z), p @ w
    torch.testing.assert_close(run.z[-1], x / w, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["one_peer_exponential", "base_k"])
def test_gossip_of_eight_workers_is_exact_after_one_period(name):
    graph = sgp_core.build_topology(name, world_size=8)
    initial = torch.arange(8, dtype=torch.float64).unsqueeze(1)
    run = _average(sgp_core.build_algorithm("sgp"), graph, initial, 3)
    assert (run.z[3] - 3.5).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("delay", "errors"), [(0, (0, 0)), (1, (3.74e-3, 3.86e-6)), (2, (0.132, 2.8e-3)), (4, (0.659, 0.092))]
)
def test_delayed_push_sum_reaches_the_mean_though_later(delay, errors):
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp", overlap_steps=delay),
        sgp_core.build_topology("one_peer_exponential", world_size=8),
        torch.arange(8, dtype=torch.float64).unsqueeze(1),
        lambda z, step: torch.zeros_like(z),
        steps=48,
    )
    for step, error in zip((24, 48), errors, strict=True):
        assert float((run.z[step] - 3.5).abs().max()) == pytest.approx(error, rel=0.02, abs=1e-14)
    assert (run.mean - 3.5).abs().max() < 1e-12
    assert (run.x.sum(1) + run.x_in_flight - 28).abs().max() < 1e-12


def test_asynchronous_pairs_taking_turns_average_like_dpsgd():
    """Without gradients, every pair averages once a step; the acting ones see it at once."""
    graph = sgp_core.build_topology("alternating_ring", world_size=8)
    initial = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    run, plain = (_average(sgp_core.build_algorithm(name), graph, initial, 20) for name in ("adpsgd", "dpsgd"))
    torch.testing.assert_close(run.mean[-1], initial.mean(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(run.z[:, ::2], plain.z[:, ::2], rtol=0, atol=1e-14)


@pytest.mark.parametrize("topology", ["one_peer_exponential", "star", "directed_ring"])
def test_asynchronous_push_sum_reaches_the_mean(topology):
    weights = {"weights": "uniform"} if topology == "star" else {}
    graph = sgp_core.build_topology(topology, world_size=8, **weights)
    initial = torch.arange(8, dtype=torch.float64).unsqueeze(1)
    run = _average(sgp_core.build_algorithm("asgp"), graph, initial, 600)
    assert (run.z[-1] - 3.5).abs().max() < 1e-6
    assert (run.mean - 3.5).abs().max() < 1e-12
    assert run.w.min() >= 0.5 / graph.edges(0).max_in_degree / 2

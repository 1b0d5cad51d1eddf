"""Rules against closed forms and published values, in the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.simulator import stacked_workers
from sgp_core.simulator.network import SimulatedNetwork
from sgp_core.topology import Topology
from tests.support.published import CONSENSUS_RMS


@dataclass(frozen=True)
class ThreeNodes(Topology):
    """0 -> {1, 2}, 1 -> {2}, 2 -> {0}: strongly connected, not regular."""

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return [[1, 2], [2], [0]][rank]


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


def _limits(matrices, b, h):
    """Return where workers settle, phase by phase, by linear algebra: the fixed point of one whole cycle of graphs."""
    n, phases = len(b), len(matrices)
    step = [w - h * np.eye(n) for w in matrices]
    whole, drift = np.eye(n), np.zeros(n)
    for a in step:
        whole, drift = a @ whole, a @ drift + h * b
    x, limits = np.linalg.solve(np.eye(n) - whole, drift), []
    for phase in range(phases):
        x = step[phase] @ x + h * b
        limits.append(x)
    return limits


def _spreads_in_closed_form(matrices, b, h):
    """Return their spreads by eigenvalues: those of a symmetric W, or of circulant ones, whose modes are Fourier's."""
    circulant = all(np.allclose(w, np.roll(np.roll(w, 1, 0), 1, 1)) for w in matrices)
    if circulant:
        eigenvalues = [np.fft.fft(w[:, 0]) for w in matrices]
        parts, mean = np.fft.fft(b, norm="ortho"), 0
    else:
        [w] = matrices
        values, modes = np.linalg.eigh(w)
        eigenvalues, parts, mean = [values], modes.T @ b, int(values.argmax())
    factors = [each - h for each in eigenvalues]
    spreads = []
    for phase in range(1, len(factors) + 1):
        order = [*factors[phase:], *factors[:phase]]  # the cycle that ends after this phase
        drift = np.zeros_like(factors[0])
        for factor in order:
            drift = factor * drift + h
        limit = drift / (1 - np.prod(order, axis=0)) * parts
        spreads.append(np.sqrt((np.abs(np.delete(limit, mean)) ** 2).sum() / len(b)))
    return spreads


@pytest.mark.parametrize("topology", [topology for topology, _ in CONSENSUS_RMS])
def test_consensus_where_models_travel_while_gradients_are_computed(topology):
    """The same workers in the order of D-PSGD's Algorithm 1: x^+ = W x - h (x - b).

    A fixed point has x* = W x* - h x* + h b, so x* = h (h I + I - W)^-1 b. Along a mode with W u = l u it is
    h / (h + 1 - l) times the part of b. For the mean l = 1 and the factor is 1: it goes to mean(b), exactly. All other
    modes keep the factor h / (h + 1 - l), where adapt-then-combine has h l / (1 - (1 - h) l), smaller for real l: here
    the latest updates have not been averaged. So even among all (``complete``, l = 0) h / (1 + h) of the spread of b
    is left. The iteration contracts by |l - h|: every l must be above h - 1. On a cycle of graphs with the same modes
    it is x^+ = (l_k - h) x + h b, whose limit after a phase is a geometric sum over the cycle that ends there.
    """
    b, h = np.arange(16.0), 0.1
    graph = sgp_core.build_topology(topology, world_size=16)
    matrices = [graph.mixing_matrix(step) for step in range(graph.period)]
    run = sgp_core.simulate(
        sgp_core.build_algorithm("dpsgd", order="adapt_while_communicate"),
        graph,
        torch.zeros(16, 1, dtype=torch.float64),
        lambda z, s: z - torch.from_numpy(b).unsqueeze(1),
        steps=400,
    )
    last = run.z[-graph.period :, :, 0].numpy()
    np.testing.assert_allclose(last, _limits(matrices, b, h), rtol=0, atol=1e-12)
    np.testing.assert_allclose(last.std(1), _spreads_in_closed_form(matrices, b, h), rtol=0, atol=1e-12)
    np.testing.assert_allclose(last.std(1), AWC_CONSENSUS_RMS[topology], rtol=0, atol=1e-6)
    assert float(run.mean[-1]) == pytest.approx(7.5, abs=1e-12)


AWC_CONSENSUS_RMS = {
    "ring": [2.503240],
    "directed_ring": [1.619668],
    "hypercube": [0.921954],
    "exponential": [0.522530],
    "star": [2.580351],
    "complete": [0.419070],
    "one_peer_exponential": [0.851514, 0.996942, 0.868775, 0.573230],
}
"""Spread, phase by phase, where CONSENSUS_RMS has that of adapt-then-combine."""


@pytest.mark.parametrize("name", ["allreduce", "sgp", "osgp", "dpsgd", "local_sgd"])
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


def test_the_mean_takes_the_step_of_the_mean_gradient_unless_messages_come_late():
    """Noisy quadratics, momentum: the mean of both orders is alike, and no longer is once messages are a step old."""
    noise = torch.randn(84, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph = sgp_core.build_topology("one_peer_exponential", world_size=8)
    momentum = lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)  # noqa: E731

    def mean(algorithm):
        start = torch.ones(8, 5, dtype=torch.float64)
        run = sgp_core.simulate(algorithm, graph, start, lambda z, s: z + noise[s], optimizer=momentum, steps=84)
        return run.mean

    after, ahead = (mean(sgp_core.build_algorithm("sgp", order=order)) for order in ("atc", "awc"))
    torch.testing.assert_close(ahead, after, rtol=0, atol=1e-13)
    late = mean(sgp_core.build_algorithm("osgp", order="atc"))
    assert (late - after).abs().max() > 0.01


@pytest.mark.parametrize("graph", [ThreeNodes(3), sgp_core.build_topology("one_peer_exponential", world_size=3)])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_models_are_averaged_as_they_were_when_the_gradient_was_taken(graph, decay):
    """x^+ = P x + U(z), w^+ = P w, z = x / w: weight decay and momentum see z, the update lands on what is averaged."""
    lr, momentum = 0.1, 0.9
    initial = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    run = sgp_core.simulate(
        sgp_core.build_algorithm("osgp"),
        graph,
        initial,
        lambda z, step: z * 0.3 + step,
        optimizer=lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, weight_decay=decay),
        steps=10,
    )
    x, w, m = initial.clone(), torch.ones(3, 1, dtype=torch.float64), 0.0
    for step in range(10):
        p, z = torch.from_numpy(graph.mixing_matrix(step)), x / w
        m = momentum * m + 0.3 * z + step + decay * z
        x, w = p @ x - lr * m, p @ w
    torch.testing.assert_close(run.z[-1], x / w, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"order": "adapt_than_combine"},
            "algorithm.order cannot be 'adapt_than_combine'; did you mean 'adapt_then",
        ),
        ({"order": "never"}, "algorithm.order cannot be 'never'; known: adapt_then_combine, adapt_while_communicate"),
        ({"order": "awc", "overlap_steps": 2}, "use overlap_steps=1, or order=adapt_then_combine"),
    ],
)
def test_orders_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        sgp_core.build_algorithm("osgp", **options)


@pytest.mark.parametrize("name", ["sgp", "dpsgd", "osgp", "gossip_pga"])
@pytest.mark.parametrize("order", ["atc", "awc"])
def test_one_worker_takes_the_steps_of_its_optimizer_bit_for_bit(name, order):
    def steps(algorithm):
        return quadratic(algorithm, 20, 0.1, lambda p: torch.optim.AdamW(p, lr=0.1))

    alone = steps(sgp_core.build_algorithm("local_sgd", period=0))
    assert torch.equal(steps(sgp_core.build_algorithm(name, order=order)), alone)


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
    monkeypatch.setattr(stacked_workers, "SimulatedNetwork", CountingNetwork)
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
        sgp_core.build_algorithm("sgp", overlap_steps=delay, order="atc"),
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

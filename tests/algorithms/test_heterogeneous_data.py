"""Rules for workers whose data differ: their papers' equations replayed in numpy, and what is proved of them."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.workers.agreement import Irregular

RATES = [0.1, 0.1, 0.05, 0.05, 0.2, 0.1, 0.02, 0.02, 0.1, 0.1, 0.07, 0.03]
DECAY = 0.01


class Quadratics:
    """Worker i has f_i(x) = a_i (x - b_i)^2 / 2 in each of ``d`` coordinates; gradients and optimum, float64."""

    def __init__(self, n: int, d: int = 3, seed: int = 0) -> None:
        dice = np.random.default_rng(seed)
        self.a, self.b = dice.uniform(0.2, 1.0, (n, d)), 3 * dice.normal(size=(n, d))
        self.optimum = (self.a * self.b).sum(0) / self.a.sum(0)
        self.start = np.tile(dice.normal(size=d), (n, 1))

    def gradient(self, z, step=0):
        return self.a * (z - self.b)

    def error(self, z) -> float:
        return float(np.abs(z - self.optimum).max())


def simulated(algorithm, topology, problem, *, rates=RATES, decay=DECAY, start=None, **sgd):
    run = sgp_core.simulate(
        algorithm,
        topology,
        problem.start if start is None else start,
        lambda z, step: torch.from_numpy(problem.gradient(z.numpy())),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=decay, **sgd),
        lr=lambda step: rates[step],
        steps=len(rates),
    )
    return run.z.numpy()


def settled(name, topology, problem, lr=0.1, steps=500, momentum=0.0, **options):
    """Return where all workers are after many steps at one rate."""
    algorithm, rates = sgp_core.build_algorithm(name, **options), [lr] * steps
    return simulated(algorithm, topology, problem, rates=rates, decay=0.0, momentum=momentum)[-1]


def graph(name, n, **options):
    return sgp_core.build_topology(name, world_size=n, **options)


def assert_replayed(z, expected):
    np.testing.assert_allclose(z[1:], expected, rtol=0, atol=1e-12)


# -- the papers' equations, divisions by the learning rate included ----------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
def test_quasi_global_momentum_is_the_papers(nesterov):
    problem, topology = Quadratics(5), graph("one_peer_exponential", 5)
    rule = sgp_core.build_algorithm("qg_dsgdm", beta=0.8, mu=0.7, nesterov=nesterov)
    x, m, expected = problem.start, np.zeros((5, 3)), []
    for step, lr in enumerate(RATES):
        g = problem.gradient(x) + DECAY * x
        local = 0.8 * m + g
        half = x - lr * (g + 0.8 * local if nesterov else local)
        mixed = topology.mixing_matrix(step) @ half
        m = 0.7 * m + 0.3 * (x - mixed) / lr
        x = mixed
        expected.append(x)
    assert_replayed(simulated(rule, topology, problem), expected)


def test_decentlam_is_the_papers():
    problem, topology = Quadratics(5), graph("ring", 5)
    w = topology.mixing_matrix(0)
    x, m, expected = problem.start, np.zeros((5, 3)), []
    for lr in RATES:
        g = problem.gradient(x) + DECAY * x
        m = 0.8 * m + (x - w @ (x - lr * g)) / lr
        x = x - lr * m
        expected.append(x)
    assert_replayed(simulated(sgp_core.build_algorithm("decentlam", beta=0.8), topology, problem), expected)


@pytest.mark.parametrize("lazy", [False, True])
def test_d2_is_the_papers(lazy):
    problem, topology = Quadratics(5), graph("ring", 5)
    w = topology.mixing_matrix(0)
    w = (w + np.eye(5)) / 2 if lazy else w
    before, step_before = None, None
    x, expected = problem.start, []
    for lr in RATES:
        step = lr * (problem.gradient(x) + DECAY * x)
        ahead = x - step if before is None else 2 * x - before - step + step_before
        before, step_before, x = x, step, w @ ahead
        expected.append(x)
    assert_replayed(simulated(sgp_core.build_algorithm("d2", lazy=lazy), topology, problem), expected)


def test_gradient_tracking_is_diging_where_models_travel_while_gradients_are_computed():
    """Nedic, Olshevsky, Shi, Algorithm 1: x^+ = W x - lr y, y^+ = W y + g^+ - g, on graphs that change."""
    problem, topology = Quadratics(5), graph("one_peer_exponential", 5)
    x, g = problem.start, problem.gradient(problem.start)
    y, expected = g, []
    for step, lr in enumerate(RATES):
        w = topology.mixing_matrix(step)
        x = w @ x - lr * y
        new = problem.gradient(x)
        y, g = w @ y + new - g, new
        expected.append(x)
    rule = sgp_core.build_algorithm("gradient_tracking", order="awc")
    assert_replayed(simulated(rule, topology, problem, decay=0.0), expected)


def test_diging_reaches_the_optimum_and_needs_rows_that_sum_to_one():
    problem = Quadratics(6)
    for name in ("ring", "one_peer_exponential"):
        z = settled("gradient_tracking", graph(name, 6), problem, lr=0.03, steps=1500, order="awc")
        assert problem.error(z) < 1e-6
    with pytest.raises(ConfigurationError, match=r"rows and columns both sum to 1.*use order=adapt_then_combine"):
        sgp_core.build_algorithm("gradient_tracking", order="awc").check(graph("star", 4, weights="uniform"))


@pytest.mark.parametrize("name", ["d2", "decentlam", "qg_dsgdm"])
def test_rules_of_one_order_say_which_have_two(name):
    with pytest.raises(ConfigurationError, match="which dpsgd, gossip_pga, gradient_tracking, osgp or sgp has"):
        sgp_core.build_algorithm(name, order="awc")


def test_gradient_tracking_is_push_diging_on_an_irregular_directed_graph():
    problem, topology = Quadratics(4), Irregular(4)
    u, v, x = problem.start, np.ones((4, 1)), problem.start
    g = problem.gradient(x)
    y, expected = g, []
    for step, lr in enumerate(RATES):
        c = topology.mixing_matrix(step)
        u, v = c @ (u - lr * y), c @ v
        x = u / v
        new = problem.gradient(x)
        y, g = c @ y + new - g, new
        expected.append(x)
    assert np.ptp(v) > 0.1
    assert_replayed(simulated(sgp_core.build_algorithm("gradient_tracking"), topology, problem, decay=0.0), expected)


@pytest.mark.parametrize("directed", [False, True])
def test_gossip_pga_averages_every_period_and_gossips_in_between(directed):
    problem, topology = Quadratics(4), Irregular(4) if directed else graph("ring", 4)
    x, w, expected = problem.start, np.ones((4, 1)), []
    for step, lr in enumerate(RATES):
        z = x / w
        p = np.full((4, 4), 0.25) if (step + 1) % 4 == 0 else topology.mixing_matrix(step)
        x, w = p @ (x - lr * (problem.gradient(z) + DECAY * z)), p @ w
        if (step + 1) % 4 == 0:
            w = np.ones((4, 1))
        expected.append(x / w)
    assert_replayed(simulated(sgp_core.build_algorithm("gossip_pga", period=4), topology, problem), expected)


@pytest.mark.parametrize("topology", [Irregular(4), graph("ring", 5)])
def test_gossip_pga_takes_in_what_is_under_way_when_it_averages(topology):
    n = topology.world_size
    run = sgp_core.simulate(
        sgp_core.build_algorithm("gossip_pga", period=4, overlap_steps=2),
        topology,
        torch.arange(n, dtype=torch.float64).unsqueeze(1),
        lambda z, step: torch.zeros_like(z),
        steps=11,
    )
    torch.testing.assert_close(run.x.sum(1) + run.x_in_flight, torch.full((12, 1), n * (n - 1) / 2).double())
    torch.testing.assert_close(run.w.sum(1) + run.w_in_flight, torch.full((12,), float(n)).double())
    assert run.consensus_distance[[4, 8]].max() < 1e-12
    assert (run.w[[4, 8]] == 1).all()
    assert run.w_in_flight[[1, 2, 3, 5, 6, 7]].min() > 0.1


@pytest.mark.parametrize("name", ["qg_dsgdm", "gossip_pga"])
def test_coded_messages_settle_where_whole_ones_do(name):
    problem, ring = Quadratics(8), graph("ring", 8)

    def run(compression):
        return sgp_core.simulate(
            sgp_core.build_algorithm(name),
            ring,
            problem.start,
            lambda z, step: 0.5 * (z - torch.from_numpy(problem.b)),
            steps=200,
            compression=compression,
            record_every=200,
        ).z[-1]

    whole, coded = run(None), run(sgp_core.build_compression("int8"))
    torch.testing.assert_close(coded, whole, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", ["star", "binary", "chain", "random"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_relaysgd_is_the_papers_with_messages_and_counts(shape, n):
    problem = Quadratics(n)
    topology = graph("star", n) if shape == "star" else graph("spanning_tree", n, shape=shape)
    neighbours = [topology.in_peers(rank, 0) for rank in range(n)]
    edges = [(i, j) for i in range(n) for j in neighbours[i]]
    first = problem.start[0]
    x, expected = problem.start, []
    messages = {edge: np.zeros(3) for edge in edges}
    counts = dict.fromkeys(edges, 0)
    for lr in RATES:
        half = x - lr * (problem.gradient(x) + DECAY * x)
        come = lambda what, i, but=None: sum(what[k, i] for k in neighbours[i] if k != but)  # noqa: E731
        messages, counts = (
            {(i, j): half[i] + come(messages, i, j) for i, j in edges},
            {(i, j): 1 + come(counts, i, j) for i, j in edges},
        )
        heard = [1 + come(counts, i) for i in range(n)]
        x = np.stack([(half[i] + come(messages, i) + (n - heard[i]) * first) / n for i in range(n)])
        expected.append(x)
    assert_replayed(simulated(sgp_core.build_algorithm("relaysgd"), topology, problem), expected)


@pytest.mark.parametrize("n", [4, 5])
def test_noloco_is_the_papers(n):
    """Five workers: one is left without a partner at each outer step."""
    problem, pairs = Quadratics(n), graph("random_matching", n, seed=3)
    base = sgp_core.build_algorithm("local_sgd", period=0)
    rule = sgp_core.build_outer("noloco", base, tau=3, lr=0.6, momentum=0.4, gamma=0.9, seed=3)
    phi, m, expected = problem.start, np.zeros((n, 3)), []
    for block in range(4):
        theta = phi
        for lr in RATES[3 * block : 3 * block + 3]:
            theta = theta - lr * (problem.gradient(theta) + DECAY * theta)
        mean = pairs.mixing_matrix(block)
        assert (np.diag(mean) == 1).sum() == n % 2
        m = 0.4 * m + 0.6 * mean @ (theta - phi) + 0.9 * (mean @ phi - phi)
        phi = phi + m
        expected.append(phi)
    np.testing.assert_allclose(simulated(rule, graph("ring", n), problem)[3::3], expected, rtol=0, atol=1e-12)


# -- what follows from them --------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n=st.integers(4, 9))
def test_some_reach_the_exact_optimum_at_a_constant_rate_and_plain_gossip_does_not(seed, n):
    problem, ring = Quadratics(n, seed=seed), graph("ring", n)
    tree = graph("spanning_tree", n, shape="random", seed=seed)
    assert problem.error(settled("dpsgd", ring, problem)) > 1e-2
    assert problem.error(settled("d2", ring, problem, lazy=True)) < 1e-6
    assert problem.error(settled("d2", tree, problem)) < 1e-6
    assert problem.error(settled("gradient_tracking", ring, problem)) < 1e-6
    assert problem.error(settled("relaysgd", tree, problem, steps=1000)) < 1e-6


@pytest.mark.parametrize(
    "topology", [Irregular(4), graph("star", 6, weights="uniform"), graph("one_peer_exponential", 6)]
)
def test_gradient_tracking_reaches_the_optimum_on_directed_and_changing_graphs(topology):
    problem = Quadratics(topology.world_size)
    assert problem.error(settled("gradient_tracking", topology, problem, lr=0.03, steps=1500)) < 1e-6


def test_gradient_tracking_and_d2_reach_it_with_a_momentum_of_the_optimizer():
    problem, ring = Quadratics(5), graph("ring", 5)
    for name in ("gradient_tracking", "d2"):
        assert problem.error(settled(name, ring, problem, lr=0.05, momentum=0.5)) < 1e-6


def test_momentum_moves_plain_gossip_away_but_not_quasi_global_momentum_or_decentlam():
    """Where workers settle: D-PSGD's limit, whatever their momentum; with each worker's own momentum, farther off."""
    problem, ring = Quadratics(8), graph("ring", 8)
    plain = settled("dpsgd", ring, problem)
    for name in ("decentlam", "qg_dsgdm"):
        np.testing.assert_allclose(settled(name, ring, problem), plain, rtol=0, atol=1e-6)
    assert problem.error(settled("dpsgd", ring, problem, momentum=0.9)) > 2 * problem.error(plain)


def test_decentlam_among_all_is_heavy_ball_with_the_mean_gradient():
    problem = Quadratics(4)
    z = simulated(sgp_core.build_algorithm("decentlam"), graph("complete", 4), problem)
    heavy = simulated(sgp_core.build_algorithm("allreduce"), graph("complete", 4), problem, momentum=0.9)
    np.testing.assert_allclose(z, heavy, rtol=0, atol=1e-12)


def test_quasi_global_momentum_among_all_is_quasi_hyperbolic_momentum():
    problem = Quadratics(4)
    x, m, expected = problem.start, np.zeros(3), []
    for lr in RATES:
        g = (problem.gradient(x) + DECAY * x).mean(0)
        x = x - lr * (0.9 * m + g)
        m = (0.9 + 0.1 * 0.9) * m + 0.1 * g
        expected.append(x)
    assert_replayed(simulated(sgp_core.build_algorithm("qg_dsgdm"), graph("complete", 4), problem), expected)


def test_the_tracker_sums_to_the_gradients():
    """On an irregular digraph all workers' steps together are those of the sum of gradients, at every step."""
    problem, topology = Quadratics(4), Irregular(4)
    run = sgp_core.simulate(
        sgp_core.build_algorithm("gradient_tracking"),
        topology,
        problem.start,
        lambda z, step: torch.from_numpy(problem.gradient(z.numpy())),
        steps=20,
    )
    x, z = run.x.numpy(), run.z.numpy()
    moved = np.diff(x.sum(1), axis=0)
    np.testing.assert_allclose(moved, [-0.1 * problem.gradient(at).sum(0) for at in z[:-1]], rtol=0, atol=1e-12)


def test_relaysgd_counts_every_model_equally_as_old_as_it_is_far():
    problem, n = Quadratics(7), 7
    topology = graph("spanning_tree", n, shape="random", seed=4)
    far = dict(nx.all_pairs_shortest_path_length(nx.Graph([(i, j) for i in range(n) for j in topology.in_peers(i, 0)])))
    z = simulated(sgp_core.build_algorithm("relaysgd"), topology, problem)
    half = [x - lr * (problem.gradient(x) + DECAY * x) for x, lr in zip(z, RATES, strict=False)]
    for step in range(len(RATES)):
        for i in range(n):
            ages = [step - max(far[i][j] - 1, 0) for j in range(n)]
            mean = np.mean([half[at][j] if at >= 0 else problem.start[j] for j, at in enumerate(ages)], axis=0)
            np.testing.assert_allclose(z[step + 1][i], mean, rtol=0, atol=1e-12)


def _noloco(n, spread, blocks, **options):
    """Workers with targets ``spread`` apart in the normal, equal curvature; ``[blocks + 1, n]`` at the blocks' ends."""
    targets = torch.from_numpy(5 + spread * np.random.default_rng(1).normal(size=(n, 1)))
    targets += 5 - targets.mean()
    rule = sgp_core.build_outer("noloco", sgp_core.build_algorithm("local_sgd", period=0), tau=4, **options)
    start = torch.from_numpy(np.random.default_rng(2).normal(size=(n, 1)))
    run = sgp_core.simulate(
        rule, graph("complete", n), start, lambda z, step: z - targets, steps=4 * blocks, record_every=4
    )
    return run.z.squeeze(-1).numpy()


def test_the_mean_under_noloco_is_heavy_ball_and_finds_the_optimum():
    z = _noloco(16, spread=1.0, blocks=40)
    mean, m, left = z[0].mean(), 0.0, 0.9**4
    for at in z[1:]:
        m = 0.5 * m + 0.7 * (5 - mean) * (1 - left)
        mean += m
        assert at.mean() == pytest.approx(mean, abs=1e-12)
    assert mean == pytest.approx(5.0, abs=1e-3)


def test_the_spread_under_noloco_vanishes_only_where_data_are_alike():
    alike, unlike = (_noloco(16, spread, blocks=60).std(1) for spread in (0.0, 1.0))
    assert alike[0] > 0.5
    assert alike[-1] < 1e-6
    assert unlike[-20:].min() > 0.05


def test_beyond_gammas_bound_noloco_drifts_apart():
    """Second moments of the recursion without learning: stable up to 2 (1 - momentum^2) among many workers."""
    for momentum in (0.0, 0.5, 0.8):
        bound = 2 * (1 - momentum**2)
        base = sgp_core.build_algorithm("local_sgd", period=0)
        with pytest.raises(ConfigurationError, match=r"gamma must lie in \(0, "):
            sgp_core.build_outer("noloco", base, momentum=momentum, gamma=bound + 1e-9)
        growth = []
        for gamma in (0.8 * bound, 1.2 * bound):
            dice, phi, m = np.random.default_rng(0), np.random.default_rng(1).normal(size=2048), np.zeros(2048)
            for _ in range(80):
                order = dice.permutation(2048)
                mean = np.empty(2048)
                mean[order[::2]] = mean[order[1::2]] = (phi[order[::2]] + phi[order[1::2]]) / 2
                m = momentum * m + gamma * (mean - phi)
                phi = phi + m
            growth.append(phi.std())
        assert growth[0] < 0.5 < 2 < growth[1], momentum


# -- rates, and what is refused ----------------------------------------------------------------------------------------


def test_d2_stays_at_the_optimum_in_float32_because_it_takes_rounding_out_of_its_memory():
    problem, ring = Quadratics(8, seed=3), graph("ring", 8)

    def error(recentre_every):
        run = sgp_core.simulate(
            sgp_core.build_algorithm("d2", lazy=True, recentre_every=recentre_every),
            ring,
            torch.from_numpy(problem.start).float(),
            lambda z, step: torch.from_numpy(problem.gradient(z.numpy())).float(),
            steps=2000,
            record_every=2000,
        )
        return problem.error(run.z[-1].numpy())

    assert error(recentre_every=100) < 3e-4
    assert error(recentre_every=0) > 5 * error(recentre_every=100)


@pytest.mark.parametrize("name", ["qg_dsgdm", "decentlam"])
def test_a_rate_of_zero_leaves_gossip_alone_and_a_momentum_that_decays(name):
    problem, ring = Quadratics(5), graph("ring", 5)
    rule = sgp_core.build_algorithm(name)
    z = simulated(rule, ring, problem, rates=[0.1, 0.1, 0.0, 0.0, 0.1])
    w = ring.mixing_matrix(0)
    np.testing.assert_allclose(z[3], w @ z[2], rtol=0, atol=1e-14)
    np.testing.assert_allclose(z[4], w @ z[3], rtol=0, atol=1e-14)
    without = simulated(rule, ring, problem, rates=[0.1], start=z[4])[-1]
    m = -(z[2] - z[1]) if name == "decentlam" else 0.1 * (0.9 * (z[0] - z[1]) + z[1] - z[2])
    pushed = -0.9 * 0.9 * 0.9 * m
    np.testing.assert_allclose(z[5] - without, pushed if name == "decentlam" else w @ pushed, rtol=0, atol=1e-12)
    assert math.isfinite(np.abs(simulated(rule, ring, problem, rates=[0.0, 0.1, 0.0])).max())


@pytest.mark.parametrize("name", ["qg_dsgdm", "decentlam"])
@pytest.mark.parametrize("outer", ["none", "slowmo"])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.SGD([{"params": p, "momentum": 0.5}], lr=0.1),
    ],
)
def test_a_momentum_beside_ones_own_is_refused(name, outer, make):
    rule = sgp_core.build_outer(outer, sgp_core.build_algorithm(name))
    with pytest.raises(ConfigurationError, match=r"optimizer\.momentum=0"):
        sgp_core.simulate(rule, graph("ring", 4), torch.zeros(4, 1), lambda z, step: z, optimizer=make, steps=1)
    model = torch.nn.Linear(2, 1)
    with pytest.raises(ConfigurationError, match=r"optimizer\.momentum=0"):
        sgp_core.Gossip(model, make(list(model.parameters())), algorithm=rule)


@pytest.mark.parametrize(
    ("name", "options", "topology", "said"),
    [
        ("d2", {}, graph("one_peer_exponential", 4), "symmetric mixing weights that never change"),
        ("d2", {}, graph("random_matching", 4), "symmetric mixing weights that never change"),
        ("d2", {}, graph("directed_ring", 4), "symmetric mixing weights that never change"),
        ("d2", {}, graph("ring", 8), r"least is -0\.333; use algorithm.lazy=true"),
        ("d2", {}, graph("hypercube", 8), r"least is -0\.500"),
        ("qg_dsgdm", {}, graph("star", 4, weights="uniform"), "rows and columns both sum to 1"),
        ("decentlam", {}, graph("star", 4, weights="uniform"), "symmetric mixing weights that never change"),
        ("decentlam", {}, graph("exponential", 4), "symmetric mixing weights that never change"),
        ("decentlam", {}, graph("one_peer_exponential", 4), "symmetric mixing weights that never change"),
        ("relaysgd", {}, graph("ring", 4), "needs a tree"),
        ("relaysgd", {}, graph("alternating_ring", 4), "needs a tree"),
        ("relaysgd", {}, sgp_core.build_topology(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)])), "needs a tree"),
    ],
)
def test_graphs_that_a_rule_is_not_defined_on_are_refused(name, options, topology, said):
    with pytest.raises(ConfigurationError, match=said):
        sgp_core.build_algorithm(name, **options).check(topology)


@pytest.mark.parametrize("topology", [graph("ring", 8), graph("hypercube", 8), graph("complete", 1)])
def test_lazy_d2_takes_every_symmetric_graph(topology):
    sgp_core.build_algorithm("d2", lazy=True).check(topology)


def test_d2_beyond_the_forbidden_eigenvalue_does_not_settle():
    """The check is there for a reason: on a hypercube of 8 the least eigenvalue is -1/2, and its mode grows."""

    class Unchecked(type(sgp_core.build_algorithm("d2"))):  # type: ignore[misc]
        def check(self, topology):
            pass

    problem, cube = Quadratics(8), graph("hypercube", 8)
    z = simulated(Unchecked(), cube, problem, rates=[0.05] * 200, decay=0.0)
    assert problem.error(z[-1]) > 1e3


@pytest.mark.parametrize("name", ["exponential", "one_peer_exponential"])
def test_decentlam_on_directed_or_changing_graphs_does_not_settle(name):
    """The check is there for a reason: the momentum of what gossip moved grows by 8 % a step or more."""

    class Unchecked(type(sgp_core.build_algorithm("decentlam"))):  # type: ignore[misc]
        def check(self, topology):
            pass

    problem = Quadratics(4)
    z = simulated(Unchecked(), graph(name, 4), problem, rates=[0.05] * 200, decay=0.0)
    assert problem.error(z[-1]) > 1e3


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 12), p=st.floats(0.0, 1.0), beta=st.floats(0.0, 0.99), seed=st.integers(0, 99))
def test_decentlam_is_stable_on_every_symmetric_graph(n, p, beta, seed):
    edges = nx.Graph(nx.gnp_random_graph(n, p, seed))
    edges.add_edges_from(zip(range(n - 1), range(1, n), strict=True))
    topology = sgp_core.build_topology(edges, weights="metropolis")
    sgp_core.build_algorithm("decentlam", beta=beta).check(topology)
    w, one = topology.mixing_matrix(0), np.eye(n)
    roots = np.abs(np.linalg.eigvals(np.block([[w + beta * one, -beta * one], [one, 0 * one]])))
    assert np.sort(roots)[:-1].max() < 1 < np.sort(roots)[-1] + 1e-9


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: sgp_core.build_algorithm("qg_dsgdm", beta=1.0), r"'qg_dsgdm': beta must lie in \[0, 1\), not 1.0"),
        (lambda: sgp_core.build_algorithm("qg_dsgdm", mu=-0.1), r"'qg_dsgdm': mu must lie in \[0, 1\)"),
        (lambda: sgp_core.build_algorithm("decentlam", beta=2.0), r"'decentlam': beta must lie in \[0, 1\)"),
        (lambda: sgp_core.build_algorithm("d2", recentre_every=-1), "recentre_every must be 0"),
        (lambda: sgp_core.build_algorithm("gossip_pga", period=0), "period must be at least 1 step, not 0"),
        (lambda: sgp_core.build_outer("slowmo", sgp_core.build_algorithm("relaysgd")), "use outer 'none'"),
    ],
)
def test_options_out_of_range_are_refused(build, said):
    with pytest.raises(ConfigurationError, match=said):
        build()


@pytest.mark.parametrize(
    ("base", "topology"),
    [
        (sgp_core.build_algorithm("osgp", order="atc"), graph("ring", 4)),
        (sgp_core.build_algorithm("osgp"), graph("star", 4, weights="uniform")),
        (sgp_core.build_algorithm("sgp"), graph("star", 4, weights="uniform")),
    ],
)
def test_noloco_is_refused_where_weights_leave_one(base, topology):
    with pytest.raises(ConfigurationError, match="without PushSum weights"):
        sgp_core.build_outer("noloco", base).check(topology)


def test_noloco_goes_around_models_that_travel_while_gradients_are_computed():
    problem, ring = Quadratics(4), graph("ring", 4)
    rule = sgp_core.build_outer("noloco", sgp_core.build_algorithm("osgp"), tau=3)
    rule.check(ring)
    z = simulated(rule, ring, problem)
    inner = simulated(sgp_core.build_algorithm("osgp"), ring, problem)
    np.testing.assert_array_equal(z[:3], inner[:3])
    assert np.abs(z[3] - inner[3]).max() > 1e-3


@pytest.mark.parametrize("name", ["d2", "decentlam", "gradient_tracking", "relaysgd"])
def test_rules_with_one_exact_round_a_step_are_neither_paced_nor_compressed(name):
    rule, tree = sgp_core.build_algorithm(name), graph("spanning_tree", 4)

    def run(**options):
        sgp_core.simulate(rule, tree, torch.zeros(4, 2), lambda z, step: z, steps=1, **options)

    with pytest.raises(ConfigurationError, match="one round of gossip after every step"):
        run(pace=sgp_core.build_pace("every", steps=2))
    with pytest.raises(ConfigurationError, match="presumes exact rounds"):
        run(compression=sgp_core.build_compression("int8"))
    run(pace=sgp_core.build_pace("every"))

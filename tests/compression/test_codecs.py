"""What is sent is small and exactly as long as said, and averaging with it is still exact."""

from __future__ import annotations

import json
from math import ceil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.compression import COMPRESSIONS, Coding
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.compressed.edge_replicas import EdgeReplicas, EdgeWeights
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import TensorLayout
from tests.compression.golden import FOLDER, trajectory

NAMES = COMPRESSIONS.names()
SHAPES = [(12, 20), (20,), (6, 3, 3)]
SIZE = 314


def _average(codec, graph, initial, steps, algorithm="sgp", record_every=20, shapes=SHAPES):
    return sgp_core.simulate(
        sgp_core.build_algorithm(algorithm) if isinstance(algorithm, str) else algorithm,
        graph,
        initial,
        lambda z, step: torch.zeros_like(z),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.0),
        steps=steps,
        record_every=record_every,
        compression=codec,
        shapes=shapes,
    )


STEPS_TO_AGREE = {
    "bf16": 100,
    "fp16": 100,
    "int8": 100,
    "int4": 100,
    "sign": 260,
    "top_k": 220,
    "random_k": 200,
    "low_rank": 320,
}
"""To 1e-6 on one_peer_exponential and ring of eight workers, with the defaults."""


def _codec(name, gamma=0.15):
    """With its defaults; factors are thin enough for these small matrices, for which a larger step is right."""
    return COMPRESSIONS.build(name, **({"rank": 4, "gamma": gamma} if name == "low_rank" else {}))


@pytest.mark.parametrize("topology", ["one_peer_exponential", "ring"])
@pytest.mark.parametrize("name", NAMES)
def test_averaging_reaches_the_true_mean(name, topology):
    initial = torch.randn(8, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = sgp_core.build_topology(topology, world_size=8)
    run = _average(_codec(name, gamma=0.25), graph, initial, STEPS_TO_AGREE[name], "dpsgd")
    assert run.consensus_distance[-1] < 1e-6
    mean = initial.mean(0)
    assert (run.z[-1].mean(0) - mean).abs().max() < 1e-12
    assert (run.z[-1] - mean).norm(dim=1).max() < 3e-6 * mean.norm()


@pytest.mark.parametrize("name", NAMES)
def test_without_learning_models_sent_before_a_step_are_those_sent_after_it(name):
    initial = torch.randn(5, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = sgp_core.build_topology("star", world_size=5, weights="uniform")
    runs = [_average(_codec(name), graph, initial, 6, sgp_core.build_algorithm("sgp", order=o)) for o in ("atc", "awc")]
    torch.testing.assert_close(runs[1].z, runs[0].z, rtol=0, atol=1e-12)
    torch.testing.assert_close(runs[1].w, runs[0].w, rtol=0, atol=1e-15)


STEPS_IN_FLIGHT = {
    "bf16": 140,
    "fp16": 140,
    "int8": 140,
    "int4": 140,
    "sign": 240,
    "top_k": 300,
    "random_k": 300,
    "low_rank": 400,
}
"""To 1e-6 with messages one and two steps under way, with the same defaults."""


@pytest.mark.parametrize(
    ("name", "topology", "tau"),
    [*((name, "one_peer_exponential", 1) for name in NAMES), *((name, "ring", 2) for name in ("int8", "top_k"))],
)
def test_averaging_with_messages_in_flight_reaches_the_true_mean(name, topology, tau):
    initial = torch.randn(8, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = sgp_core.build_topology(topology, world_size=8)
    steps = STEPS_IN_FLIGHT[name] + (60 if tau > 1 else 0)
    late = sgp_core.build_algorithm("sgp", overlap_steps=tau, order="atc")
    run = _average(_codec(name), graph, initial, steps, late, steps)
    assert run.consensus_distance[-1] < 1e-6
    assert (run.z[-1] - initial.mean(0)).norm(dim=1).max() < 3e-6 * initial.mean(0).norm()
    assert run.w_in_flight[-1] > 0.3


@pytest.mark.parametrize("name", ["bf16", "fp16", "int8", "int4", "sign", "top_k"])
def test_push_sum_reaches_the_true_mean_of_an_irregular_graph(name):
    initial = torch.randn(6, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph = sgp_core.build_topology("spanning_tree", world_size=6, weights="uniform")
    run = _average(COMPRESSIONS.build(name), graph, initial, 500 if name == "top_k" else 200)
    assert (run.w[-1] - 1).abs().max() > 0.2
    assert (run.z[-1] - initial.mean(0)).abs().max() < 1e-6


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    name=st.sampled_from(NAMES),
    overlap_steps=st.integers(0, 3),
    phases=st.lists(
        st.tuples(
            st.sampled_from(["one_peer_exponential", "ring", "star", "equidyn", "erdos_renyi"]), st.integers(1, 3)
        ),
        min_size=2,
        max_size=3,
    ),
    n=st.sampled_from([2, 3, 5, 8, 13]),
    gamma=st.floats(0.1, 1.0),
    seed=st.integers(0, 2**16),
)
def test_sums_are_conserved_while_graphs_and_peer_counts_change(name, overlap_steps, phases, n, gamma, seed):
    chosen = []
    for number, (topology, peers) in enumerate(phases):
        uniform = {"weights": "uniform"}
        options = {"star": uniform, "erdos_renyi": uniform, "one_peer_exponential": {"peers": min(peers, n - 1)}}
        chosen.append({"start": 3 * number, "name": topology, **options.get(topology, {})})
    graph = sgp_core.build_topology("schedule", world_size=n, unit="step", phases=chosen)
    initial = torch.randn(n, 43, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    codec = COMPRESSIONS.build(name, gamma=gamma)
    algorithm = sgp_core.build_algorithm("sgp", overlap_steps=overlap_steps)
    run = _average(codec, graph, initial, 9, algorithm, record_every=1, shapes=[(4, 9), (7,)])
    # coarse codecs at gamma 1 may diverge: masses still agree
    sums, scale = run.x.sum(1) + run.x_in_flight, run.x.abs().sum(1).max()
    assert (sums - initial.sum(0)).abs().max() <= 1e-12 * scale
    assert (run.w.sum(1) + run.w_in_flight - n).abs().max() <= 1e-12 * n
    assert (run.w_in_flight[1] > 0) == (overlap_steps > 1)


BYTES = {
    "bf16": lambda n, m: 2 * n,
    "fp16": lambda n, m: 2 * n + 4 * ceil(n / 65536),
    "int8": lambda n, m: n + 4 * ceil(n / 256),
    "int4": lambda n, m: ceil(n / 2) + 4 * ceil(n / 64),
    "sign": lambda n, m: ceil(n / 256) * (4 + 32),
    "top_k": lambda n, m: 6 * (ceil(0.2 * 65536) * (n // 65536) + ceil(0.2 * (n % 65536))),
    "random_k": lambda n, m: 4 * (32768 * (n // 65536) + ceil(0.5 * (n % 65536)) + ceil(n / 65536)),
    "low_rank": lambda n, m: 4 * (8 * sum(m) + n - m[0] * m[1]),
}


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_as_long_as_the_formula(name):
    codec, matrix = COMPRESSIONS.build(name), (300, 400)
    layout = [TensorLayout.packed([matrix, (400,)], "float32")]
    start = FlatVector([torch.zeros(layout[0].numel)])
    graph = sgp_core.build_topology("ring", world_size=2)
    sends = EdgeReplicas(0, codec, layout, start, graph).give(start.clone(), _part(graph), None)
    [sent] = sends.values()
    padding = 8 * len(codec.pieces(layout))
    assert sent.bytes(weighed=False).numel() == codec.nbytes(layout)
    assert 0 <= codec.nbytes(layout) - BYTES[name](layout[0].numel, matrix) < padding


def _part(graph):
    return EdgeWeights.of(graph, 0, 0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("numel", [1, 7, 256, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_decoded_is_nearer_and_zero_stays_zero(name, numel, dtype):
    """Any codec must bring a copy nearer, for any vector: that is what convergence rests on."""
    codec, kind = COMPRESSIONS.build(name), getattr(torch, dtype)
    [piece] = codec.pieces([TensorLayout.packed([(numel,)], dtype)])
    remembered = codec.memory(piece)
    memory = None if remembered is None else torch.zeros(remembered, dtype=kind)
    for vector in (torch.randn(numel), torch.eye(1, numel)[0] * 1e-5, torch.zeros(numel)):
        vector = vector.to(kind)
        message = [torch.zeros(count, dtype=getattr(torch, d)) for d, count in codec.sections(piece)]
        coding = Coding(piece, 3, 0, 1, torch.empty_like(vector), memory)
        codec.encode(vector.clone(), message, coding)
        out = torch.full_like(vector, float("nan"))
        codec.decode(message, out, coding)
        assert (vector.double() - out.double()).norm() <= vector.double().norm() * 1.01


def test_a_weight_that_is_cut_goes_on_as_its_whole_rows():
    memory = TensorLayout.packed([(3,), (6, 2, 2), (4,)], "float32")
    parts = [memory.between(begin, begin + 11) for begin in (0, 11, 22, 33)]
    assert parts[0] == TensorLayout(11, "float32", ((0, (3,)), (3, (2, 2, 2))))
    assert parts[1] == TensorLayout(11, "float32", ((0, (2, 2, 2)), (8, (3,))))
    assert parts[2] == TensorLayout(9, "float32", ((0, (1,)), (1, (1, 2, 2)), (5, (4,))))
    assert parts[3] == TensorLayout(0, "float32", ())
    assert memory.between(0, 31) == memory
    assert memory.between(8, 10).parameters == ((0, (2,)),), "no whole row"


def test_low_rank_sends_matrices_of_that_rank_whole():
    codec = sgp_core.build_compression("low_rank", rank=2)
    [piece] = codec.pieces([TensorLayout.packed([(20, 30)], "float64")])
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, 2, dtype=torch.float64, generator=generator) for size in (20, 30))
    vector = (a @ b.T).view(-1)
    message = [torch.zeros(count, dtype=torch.float64) for _, count in codec.sections(piece)]
    coding = Coding(piece, 0, 0, 1, torch.empty_like(vector), torch.zeros(codec.memory(piece), dtype=torch.float64))
    codec.encode(vector.clone(), message, coding)
    out = torch.empty_like(vector)
    codec.decode(message, out, coding)
    torch.testing.assert_close(out, vector, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_k_sends_every_number_in_its_turn(dtype):
    codec = sgp_core.build_compression("random_k", fraction=0.002)
    [piece] = codec.pieces([TensorLayout.packed([(1000,)], str(dtype).removeprefix("torch."))])
    memory = torch.zeros(codec.memory(piece), dtype=dtype)
    vector, out = torch.ones(1000, dtype=dtype), torch.zeros(1000, dtype=dtype)
    orders = []
    for _ in range(1001):  # more than bfloat16 counts to
        message = [torch.zeros(count, dtype=getattr(torch, d)) for d, count in codec.sections(piece)]
        codec.encode(vector.clone(), message, Coding(piece, 3, 0, 1, torch.empty_like(vector), memory))
        codec.decode(message, out, Coding(piece, 3, 0, 1, torch.empty_like(vector)))
        orders.append(out.nonzero().flatten().tolist())
    assert all(len(sent) == 2 for sent in orders)
    assert sorted(number for sent in orders[:500] for number in sent) == list(range(1000))
    assert orders[500:1000] == orders[:500]
    assert orders[0] != [0, 500], "where it begins is drawn"


@pytest.mark.parametrize("name", NAMES)
def test_the_trajectory_is_the_remembered_one(name):
    remembered, now = json.loads((FOLDER / f"{name}.json").read_text()), trajectory(name)
    for key in ("z", "w"):
        expected = torch.tensor(remembered[key], dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(now[key], dtype=torch.float64), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("int9", {}, "did you mean 'int8'"),
        ("int8", {"blocks": 3}, "did you mean 'block_size'"),
        ("int8", {"block_size": 0}, "compression 'int8': block_size must be at least 1 element, not 0"),
        ("sign", {"block_size": 100}, "a power of 2"),
        ("top_k", {"fraction": 0.0}, "fraction must be above 0 and at most 1"),
        ("random_k", {"fraction": 2.0}, "fraction must be above 0 and at most 1"),
        ("low_rank", {"rank": 0}, "rank must be at least 1"),
        ("bf16", {"gamma": 0.0}, "gamma must be above 0 and at most 1"),
    ],
)
def test_mistakes_are_named(name, options, said):
    with pytest.raises(ConfigurationError, match=said):
        sgp_core.build_compression(name, **options)


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("allreduce", "and this algorithm has none"),
        ("local_sgd", "and this algorithm has none"),
    ],
)
def test_algorithms_that_cannot_be_compressed_are_refused(algorithm, said):
    graph = sgp_core.build_topology("ring", world_size=4)
    rule = sgp_core.build_outer("slowmo", sgp_core.build_algorithm(algorithm))
    with pytest.raises(ConfigurationError, match=said):
        sgp_core.simulate(
            rule, graph, torch.zeros(4, 3), lambda z, step: z, steps=1, compression=COMPRESSIONS.build("int8")
        )


def test_none_is_no_codec():
    assert sgp_core.build_compression("none") is None

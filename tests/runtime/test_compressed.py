"""Compressed gossip of real gloo workers: the simulator's numbers, equal copies, exact resume, counted bytes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sgp_core
from sgp_core.compression import COMPRESSIONS
from sgp_core.tensors.layout import TensorLayout
from tests.support.workers import run_workers
from tests.workers import compressed
from tests.workers.agreement import batch, flatten, make_model, make_optimizer

CASES = compressed.cases()


@pytest.fixture(scope="module")
def ranks():
    return run_workers(4, compressed.everything)


def _backwards(model):
    """Shapes, and the order that puts parameters where real workers' storage has them: last first."""
    return [tuple(parameter.shape) for parameter in model.parameters()][::-1]


def _simulated(codec, graph, tau):
    model = make_model()
    shapes = _backwards(model)
    names = [name for name, _ in model.named_parameters()][::-1]
    sizes = [torch.Size(shape).numel() for shape in shapes]

    def gradient(z, step):
        rows = []
        for rank, row in enumerate(z):
            leaf = row.clone().requires_grad_()
            parts = zip(names, leaf.split(sizes), shapes, strict=True)
            named = {name: part.view(shape) for name, part, shape in parts}
            inputs, targets = batch(rank, step)
            loss = nn.functional.cross_entropy(torch.func.functional_call(model, named, (inputs,)), targets)
            rows.append(torch.autograd.grad(loss, leaf)[0])
        return torch.stack(rows)

    start = torch.cat([parameter.detach().reshape(-1) for parameter in list(model.parameters())[::-1]])
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp", overlap_steps=tau),
        graph,
        start.expand(4, -1),
        gradient,
        optimizer=lambda p: make_optimizer(p),
        steps=compressed.STEPS,
        compression=codec,
        shapes=shapes,
    )
    return run


def test_workers_and_the_simulator_send_the_same_numbers(ranks):
    for number, case in enumerate(CASES):
        real = torch.stack([rank["trained"][number]["z"] for rank in ranks])
        run = _simulated(*case)
        assert (real - run.z[-1]).abs().max() <= 1e-12, case
        assert [rank["trained"][number]["w"] for rank in ranks] == pytest.approx(run.w[-1].tolist(), abs=1e-12)
        mean = run.x[-1].mean(0) + run.x_in_flight[-1] / 4
        for rank in ranks:
            assert rank["trained"][number]["weights"] == pytest.approx(4, abs=1e-12)
            assert (rank["trained"][number]["mass"] - mean).abs().max() <= 1e-12, case
            half = run.x[compressed.STEPS // 2].mean(0) + run.x_in_flight[compressed.STEPS // 2] / 4
            assert (rank["trained"][number]["mean_on_the_way"] - half).abs().max() <= 1e-12, case


def test_both_ends_of_every_edge_hold_the_same_copy(ranks):
    for number, case in enumerate(CASES):
        for sender, rank in enumerate(ranks):
            for receiver, given in rank["trained"][number]["given"].items():
                taken = ranks[receiver]["trained"][number]["taken"][sender]
                assert all(torch.equal(a, b) for a, b in zip(given, taken, strict=True)), case


def test_a_resume_goes_on_bit_for_bit_with_messages_in_flight(ranks):
    for rank in ranks:
        for (_, _, tau), result in zip(CASES, rank["trained"], strict=True):
            assert result["resumed"], tau
            assert result["in_flight"] == {0: (0, 0), 1: (0, 1), 2: (2, 0)}[tau]


def test_sums_stay_what_they_are_when_models_that_are_under_way_change(ranks):
    """Copies at both ends have followed what was sent, so that it is combined as it is, with another model."""
    for rank in ranks:
        for changes in rank["changed"].values():
            assert len(changes) == 6
            assert max(changes) < 1e-14


def test_memory_holds_as_many_messages_as_are_under_way_and_one_more(ranks):
    for number, (_, graph, tau) in enumerate(CASES):
        under_way = tau if tau > 1 else 0  # with the next ones; else they are taken before others leave
        for rank, result in enumerate(ranks):
            steps = range(compressed.STEPS - under_way - 1, compressed.STEPS + 2)
            degrees = [len(graph.out_peers(rank, k)) + len(graph.in_peers(rank, k)) for k in steps]
            most = max(sum(degrees[at : at + under_way + 1]) for at in range(len(degrees) - under_way))
            still = len(graph.in_peers(rank, compressed.STEPS)) if tau == 1 else 0
            assert result["trained"][number]["parcels"] == most - still


def test_bytes_are_counted_exactly(ranks):
    layout = [TensorLayout.packed(_backwards(make_model()), "float64")]
    for number, (codec, graph, tau) in enumerate(CASES):
        message = codec.nbytes(layout) + (0 if graph.is_doubly_stochastic and not tau else 8)
        for rank, result in enumerate(ranks):
            sent = sum(len(graph.out_peers(rank, step)) for step in range(compressed.STEPS))
            assert result["trained"][number]["bytes"] == sent * message, codec


def test_every_kind_of_parameter_reaches_the_mean(ranks):
    """bfloat16 parameters, too, as near as bfloat16 is."""
    assert all(distance <= 1e-5 for rank in ranks for distance in rank["awkward"].values())


def test_a_step_of_a_plain_codec_allocates_nothing(ranks):
    assert all(names == [] for rank in ranks for names in rank["allocations"].values())


def test_a_state_of_an_uncompressed_run_is_refused():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sgp = sgp_core.build_algorithm("sgp")
    uncompressed = sgp_core.Gossip(model, optimizer, algorithm=sgp)
    plain = uncompressed.state_dict()
    uncompressed.close()
    gossip = sgp_core.Gossip(model, optimizer, algorithm=sgp, compression=COMPRESSIONS.build("int8"))
    before = flatten(model)
    with pytest.raises(ValueError, match="saved with compression none, Gossip is built with int8"):
        gossip.load_state_dict(plain)
    assert torch.equal(flatten(model), before)

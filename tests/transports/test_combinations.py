"""Every transport carries models that leave ahead: the numbers computed by hand, to the bit, in memory of one inbox."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.topology.base import Edges
from sgp_core.transports.p2p.pending_message import MessageChannel
from sgp_core.transports.registry import TRANSPORTS, find_transport
from tests.support.workers import run_workers
from tests.workers import combinations

ON_CPUS = [name for name in TRANSPORTS.names() if "cpu" in find_transport(name).devices]
CASES = ["in place", "in place, weights", "apart", "apart, weights"]
VICTIM = 1


@pytest.fixture(scope="module", params=[*ON_CPUS, "symmetric_memory"])  # that between processes that stand in for GPUs
def ranks(request):
    return run_workers(combinations.WORKERS, combinations.everything, request.param, VICTIM, killed=[VICTIM])


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_what_it_is_by_hand_to_the_bit(ranks, case):
    assert [found["bits"][case] for found in ranks[0]["found"]] == [[]] * combinations.WORKERS


def test_a_transport_of_a_users_own_need_not_send_ahead(ranks):
    for found in ranks[0]["found"]:
        assert found["plain"] in ({}, {case: [] for case in CASES})


def test_a_worker_that_is_lost_is_named(ranks):
    assert len(ranks) == combinations.WORKERS - 1
    lost = [rank["lost"] for rank in ranks]
    for error in lost:
        assert error["rank"] == error["me"]
        assert error["step"] >= 1
        assert error["peers"], "a name, be it of one that ended because of the first"
    assert any(error["peers"] == (VICTIM,) for error in lost)


def test_one_inbox_is_all_the_memory_that_messages_need():
    for rank in run_workers(4, combinations.footprints):
        for (transport, case), found in rank.items():
            assert found["allocations"] == [], (transport, case)
            assert found["added"]["steps"] <= 1.1 * found["parameters"], (transport, case)
            if transport == "p2p":  # where hosts share memory, a send buffer serves as scratch memory
                assert found["added"]["consensus_distance()"] <= 1.1 * found["parameters"], case


class FusedMessages:
    """Messages of a backend that makes one of a batch, like NCCL: nothing has arrived or left before its only work."""

    world_size = 3

    def __init__(self, theirs: float, weight: float) -> None:
        self._content = {torch.float32: theirs, torch.float64: weight}
        self.left: list[torch.Tensor] = []

    def receive(self, into: torch.Tensor, peer: int) -> torch.Tensor:
        return into

    def send(self, tensor: torch.Tensor, peer: int) -> torch.Tensor:
        return tensor

    def post(self, receives, sends, exchange):
        def arrive() -> None:
            for into in receives:
                into.fill_(self._content[into.dtype])
            self.left = [tensor.clone() for tensor in sends]

        works = [SimpleNamespace(wait=arrive)] if receives or sends else []
        return works, works


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("weight", [None, 2.0])
@pytest.mark.parametrize(
    "out_peers", [[[1], [2], [0]], [[1, 2], [0, 2], [0, 1]], [[1], [], []], [[], [0], []], [[], [], []]]
)
def test_one_work_for_a_whole_batch_is_waited_for_once(out_peers, weight, apart):
    edges = Edges.of(matrix := column_stochastic(out_peers))
    exchange = Exchange.along(edges, 0, 0)
    x = FlatVector([torch.full((70,), 1.0)])
    messages = FusedMessages(theirs=5.0, weight=4.0)
    message = MessageChannel(x, messages).post(x, exchange, weight, None)
    arrived = message.combine(x, weight, apart=apart)
    assert all(torch.all(tensor == (weight if tensor.dtype == torch.float64 else 1.0)) for tensor in messages.left)
    shares = float(matrix[0, 1:].sum())
    new = float(matrix[0, 0]) * (weight or 1.0) + shares * 5.0 * (4.0 if weight else 1.0)
    expected = 1.0 if apart else new
    torch.testing.assert_close(x.tensors[0], torch.full((70,), expected))
    message.complete(x)
    torch.testing.assert_close(x.tensors[0], torch.full((70,), new))
    assert arrived == pytest.approx(4.0 * shares if weight else 0.0)


def column_stochastic(out_peers: list[list[int]]) -> np.ndarray:
    """Return the mixing matrix of these edges, with equal weights."""
    matrix = np.zeros((len(out_peers), len(out_peers)))
    for sender, receivers in enumerate(out_peers):
        matrix[[sender, *receivers], sender] = 1 / (1 + len(receivers))
    return matrix

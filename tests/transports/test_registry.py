"""Transports are found by name or alias, tried in the order of their priorities, and may be a user's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgp_core.errors import ConfigurationError
from sgp_core.transports.registry import (
    TRANSPORTS,
    HostCount,
    Placement,
    TransportKind,
    canonical_transport_name,
    find_transport,
    register_transport,
    transports_by_priority,
)
from tests.support.workers import run_workers
from tests.workers import own_transport


def test_messages_are_tried_last_and_serve_everything():
    *_, last = transports_by_priority()
    assert last.name == "p2p"
    assert last.serves(["cpu"], 3, 1, node_groups=True)
    assert last.serves(["cuda"], 1, 8)


def test_the_name_of_before_finds_the_transport():
    assert find_transport("mixed").name == find_transport("hierarchical").name == "hierarchical"
    assert canonical_transport_name("mixed") == "hierarchical"
    assert canonical_transport_name("gone with its plug-in") == "gone with its plug-in"


@pytest.mark.parametrize("name", TRANSPORTS.names())
def test_every_transport_says_in_a_sentence_what_it_does(name):
    kind = find_transport(name)
    assert kind.summary.endswith(".")
    assert kind.summary.count(".") == 1 + kind.summary.count("torch.distributed")


@pytest.mark.parametrize(
    ("name", "devices", "hosts", "workers", "expected"),
    [
        ("shared_memory", ["cpu"], 1, 4, True),
        ("shared_memory", ["cuda"], 1, 4, False),
        ("shared_memory", ["cpu"], 2, 4, False),
        ("hierarchical", ["cpu", "cuda"], 2, 2, True),
        ("hierarchical", ["cpu"], 2, 1, False),
        ("hierarchical", ["cpu"], 1, 2, False),
        ("symmetric_memory", ["cuda"], 1, 2, True),
        ("symmetric_memory", ["cpu"], 1, 2, False),
    ],
)
def test_what_a_transport_serves(name, devices, hosts, workers, expected):
    assert find_transport(name).serves(devices, hosts, workers) is expected
    assert not find_transport(name).serves(devices, hosts, workers, node_groups=True)


@pytest.fixture
def own() -> Iterator[type[TransportKind]]:
    @register_transport("pigeon")
    class Pigeon(TransportKind):
        aliases = ("dove",)
        summary = "Pigeons carry it."
        priority = 100
        hosts = HostCount.one

        def place(self, request: Placement):
            raise NotImplementedError

    yield Pigeon
    TRANSPORTS.remove("pigeon")


def test_a_transport_of_a_users_own_is_known_like_ours(own):
    assert isinstance(find_transport("dove"), own)
    assert transports_by_priority()[0].name == "pigeon"
    with pytest.raises(ConfigurationError, match="unknown transport 'pidgeon'; did you mean 'pigeon'"):
        find_transport("pidgeon")


def test_a_transport_of_a_users_own_carries_models():
    for rank in run_workers(2, own_transport.train):
        ours, own = rank.pop("ahead")
        assert own == pytest.approx(ours, abs=1e-12), "although its models are not sent ahead"
        assert rank == {"asked": "messages_of_my_own", "auto": "messages_of_my_own", "mixed": True}

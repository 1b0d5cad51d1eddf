"""A state goes back to the worker, the rule and the graph that it was saved with, or is refused in a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.workers import run_workers
from tests.workers import saving


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_workers(4, saving.everything, str(tmp_path_factory.mktemp("saved")))


SENTENCES = {
    "slowmo": "saved with algorithm sgp, Gossip is built with slowmo over sgp",
    "osgp": "saved with algorithm sgp, Gossip is built with osgp",
    "overlap": (
        "saved with algorithm sgp(overlap_steps=0, order=adapt_then_combine), Gossip is built with"
        " sgp(overlap_steps=1, order=adapt_while_communicate)"
    ),
    "ring": "saved with topology star, Gossip is built with ring",
    "pace": "saved with pace none, Gossip is built with every",
    "nodes": "saved with node_size=1, here it is 2",
    "optimizer": "saved with AdamW over 6 parameters, here is SGD over 6 parameters",
    "buffer": "another model's: its buffer 'count' is missing, this model's is of shape (2,)",
    "model": "the state is another model's: its parameter '",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_state_that_does_not_belong_is_refused(ranks, case):
    for rank in ranks:
        assert rank["does not belong"][case].startswith("ConfigurationError: ")
        assert SENTENCES[case] in rank["does not belong"][case]


def test_each_worker_takes_its_own_state_only(ranks):
    for number, rank in enumerate(ranks):
        said = rank["does not belong"]["rank 0's"]
        assert said == "" if number == 0 else f"the state is rank 0's, this is rank {number}" in said
        assert rank["does not belong"]["same"] == ""


def test_another_number_of_workers_is_refused(ranks):
    for rank in ranks[:2]:
        assert "saved by 4 workers, this run has 2 workers" in rank["does not belong"]["two workers"]
        assert "reshape=True" in rank["does not belong"]["two workers"]


def test_a_state_that_does_not_say_what_it_is_loads_as_before(ranks):
    assert [rank["does not belong"]["0.1"] for rank in ranks] == [""] * 4


def test_a_folder_is_loaded_to_the_bit(ranks):
    for rank in ranks:
        assert rank["loaded"] == dict.fromkeys(rank["loaded"], True)
        assert len(rank["loaded"]) == 7


def test_a_save_that_fails_leaves_the_former_one(ranks):
    for said in (rank["spoiled"] for rank in ranks):
        assert said["failed"].startswith("CheckpointError: cannot save to ")
        assert "rank 2: " in said["failed"]
        assert said["former"]
        assert said["files"] == said["files after another"] == 5


def test_damage_is_found_by_all_before_anything_is_loaded(ranks):
    for said in (rank["spoiled"] for rank in ranks):
        assert "is damaged: its size or checksum is not the manifest's" in said["damaged"]
        assert "rank-3-" in said["damaged"]
        assert said["untouched"]
        assert "holds nothing that gossip.save() has completed" in said["nothing"]


def test_shards_of_nodes_are_put_together_and_what_cannot_be_is_refused(ranks):
    for result in (rank["reshaped"]["of nodes"] for rank in ranks):
        assert result["model"] <= 1e-12
        assert result["warned"] == ["the optimizer starts anew: what was saved is of another optimizer or shards"]
        assert "a model that FSDP2 has sharded cannot be reshaped" in result["fsdp"]
        assert "before the first step" in result["late"]


def test_another_memory_format_is_refused():
    def build(memory_format):
        model = nn.Conv2d(3, 4, 3).to(memory_format=memory_format)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"))

    state = build(torch.channels_last).state_dict()
    build(torch.channels_last).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="in another memory format: 'weight' lies elsewhere"):
        build(torch.contiguous_format).load_state_dict(state)


@pytest.mark.parametrize("case", ["outer", "relay", "compressed", "nodes", "asynchronous", "two workers"])
def test_reshaping_keeps_the_average(ranks, case):
    for rank in ranks[: 2 if case == "two workers" else 4]:
        result = rank["reshaped"][case]
        assert result["refused"].startswith("ConfigurationError: ")
        assert result["warned"] == []
        assert result["model"] <= 1e-12
        assert result["buffers"] <= 1e-12
        assert result["momenta"] <= 1e-12
        assert result["weight"] == 1.0
        assert result["step"] == 5
        assert result["extra"] == {"epoch": 3}
        assert result["kept"] <= 1e-12

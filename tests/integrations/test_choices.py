"""What is said about gossip in one mapping, and what frameworks cannot do with it."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.integrations.accelerate import GossipAccelerator, check_plain
from sgp_core.integrations.choices import GossipChoices
from sgp_core.integrations.transformers import check_arguments, last_complete_checkpoint


def attached(choice: Any) -> sgp_core.Gossip:
    model = nn.Linear(2, 1)
    return GossipChoices(choice).attach(model, torch.optim.SGD(model.parameters(), lr=0.1), world_size=1)


def test_a_name_is_an_algorithm() -> None:
    assert attached("osgp").algorithm == sgp_core.build_algorithm("osgp")


def test_parts_are_mappings_names_or_objects() -> None:
    base = sgp_core.build_algorithm("sgp")
    outer = sgp_core.build_outer("slowmo", base, tau=3)
    assert attached({"algorithm": "sgp", "outer": {"name": "slowmo", "tau": 3}}).algorithm == outer
    assert attached({"algorithm": {"name": "sgp"}, "outer": "slowmo"}).algorithm == sgp_core.build_outer("slowmo", base)
    assert attached({"algorithm": outer}).algorithm == outer
    topology = sgp_core.build_topology("one_peer_exponential", world_size=1, peers=2)
    for choice in ({"name": "one_peer_exponential", "peers": 2}, topology):
        assert attached({"algorithm": "sgp", "topology": choice, "pace": {"name": "every", "steps": 2}}).topology == (
            topology
        )


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"topology": "ring"}, "gossip names no algorithm"),
        ({"algorithm": "sgp", "topolgy": "ring"}, "gossip has no option 'topolgy'; did you mean 'topology'?"),
        ({"algorithm": "sgp", "elastic": True}, "elastic needs a loop of your own"),
        (["sgp"], "gossip must be the name of an algorithm, or a mapping"),
        ({"algorithm": "sgp", "topology": {"peers": 2}}, "gossip: topology needs a name"),
        ({"algorithm": "slowmo"}, "'slowmo' is an outer"),
        ({"algorithm": "sgp", "outer": {"name": "slowmo", "tao": 3}}, "tao"),
        ({"algorithm": "sgp", "model": 1}, "gossip has no option 'model'"),
    ],
)
def test_mistakes_are_one_sentence(choice: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        attached(choice)
    assert "\n" not in str(refused.value)


def test_max_norm_is_handed_over_only_inside_backward() -> None:
    inside, chosen = {"algorithm": "sgp", "step_in_backward": True}, {"max_norm": 3.0}
    for choice, norm in (({"algorithm": "sgp"}, None), (inside, 2.0), ({**inside, **chosen}, 3.0)):
        choices = GossipChoices(choice)
        choices.clip_in_backward(2.0)
        assert choices.max_norm == norm


def test_a_world_of_one_needs_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    accelerator = GossipAccelerator(cpu=True, gossip="sgp")
    model = nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    accelerator.backward(model(torch.ones(1, 2)).sum())
    optimizer.step()
    assert accelerator.gossip is not None
    assert accelerator.gossip.step == 1
    accelerator.finish_gossip()
    with pytest.raises(ConfigurationError, match="of the class GossipAccelerator cannot be made to gossip"):
        GossipAccelerator.take_over(accelerator, GossipChoices("sgp"))


@pytest.mark.parametrize(
    ("kind", "parallel", "started", "said"),
    [
        ("FSDP", None, "4", "set up for FSDP, which shards the model over all workers"),
        ("DEEPSPEED", None, "4", "set up for DEEPSPEED"),
        ("NO", None, "4", r"4 workers were started, but accelerate would let each train alone.*cpu=True.*use_cpu=True"),
        ("MULTI_GPU", SimpleNamespace(total_size=2), "4", "parallelism_config"),
    ],
)
def test_other_ways_to_use_several_workers_are_refused(
    kind: str, parallel: Any, started: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(ConfigurationError, match=said):
        check_plain(SimpleNamespace(distributed_type=kind, parallelism_config=parallel))
    check_plain(SimpleNamespace(distributed_type="MULTI_CPU", parallelism_config=None))


@pytest.mark.parametrize(
    ("gpus", "optimizer", "said"),
    [
        (2, "adamw_torch", "torchrun --nproc-per-node 2"),
        (1, "lomo", "optim=lomo has no step"),
        (0, "galore_adamw_layerwise", "optim=galore_adamw_layerwise has no step"),
    ],
)
def test_a_trainer_that_steps_otherwise_is_refused(gpus: int, optimizer: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_arguments(SimpleNamespace(n_gpu=gpus, optim=optimizer))
    check_arguments(SimpleNamespace(n_gpu=1, optim="adamw_torch"))


def test_the_last_checkpoint_is_the_last_that_is_whole(tmp_path: Any) -> None:
    assert last_complete_checkpoint(tmp_path / "nowhere") is None
    for step, files in ((2, ["trainer_state.json"]), (9, ["gossip/manifest.json", "trainer_state.json"])):
        for file in files:
            path = tmp_path / f"checkpoint-{step}" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "checkpoint-10" / "gossip").mkdir(parents=True)  # killed while workers were saving
    (tmp_path / "checkpoint-10" / "trainer_state.json").touch()
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    (tmp_path / "checkpoint-9" / "gossip" / "manifest.json").unlink()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize("name", ["transformers", "accelerate"])
def test_a_missing_package_is_named_with_its_extra(name: str) -> None:
    program = f"import sys; sys.modules['{name}'] = None; import sgp_core.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'stochastic-gradient-push[transformers]' installs it" in done.stderr.splitlines()[-1]

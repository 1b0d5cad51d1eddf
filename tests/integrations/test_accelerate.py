"""``GossipAccelerator`` in four real workers: loops of accelerate as they are, and what gossip adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.preloaded import run_preloaded
from tests.workers.accelerate_loops import close_to, use_accelerators

RANKS = range(4)
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accelerate")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return run_preloaded(["accelerate"], 4, use_accelerators, str(folder))


def test_allreduce_is_what_ddp_does(found: Found) -> None:
    """Accumulated, clipped and scheduled alike. Each worker's BatchNorm statistics are its own; DDP has rank 0's."""
    for rank in RANKS:
        theirs, ours = found[rank]["ddp"]["Accelerator"], found[rank]["ddp"]["GossipAccelerator"]
        assert (theirs["wrapped"], ours["wrapped"]) == ("DistributedDataParallel", "Sequential")
        learnt = [name for name in theirs["weights"] if not name.startswith("1.running")]
        assert close_to({name: theirs["weights"][name] for name in learnt}, ours["weights"]) < 1e-12
        assert ours["norms"] == pytest.approx(theirs["norms"], abs=1e-12)
        assert ours["rate"] == theirs["rate"] != [0.3]
        assert len(ours["norms"]) == 3
        assert max(ours["norms"]) > 0.5, "nothing was clipped"


def test_a_loop_resumes_to_the_bit(found: Found) -> None:
    for rank in RANKS:
        run = found[rank]["resume"]
        assert close_to(run["whole"], run["resumed"]) == 0
        assert close_to(run["whole"], run["own"]) > 0
        assert run["step"] == 6
    assert sum(found[rank]["resume"]["weight"] for rank in RANKS) == pytest.approx(4, abs=1e-12)
    assert found[0]["resume"]["weight"] > 1.5
    assert {"gossip", "model.safetensors", "optimizer.bin", "random_states_3.pkl"} <= set(found[0]["resume"]["files"])


def test_the_average_is_what_is_exported_and_seen(found: Found, folder: Path) -> None:
    saved = load_file(folder / "project" / "checkpoints" / "checkpoint_0" / "model.safetensors")
    runs = [found[rank]["resume"] for rank in RANKS]
    assert len({run["own"]["1.running_mean"].sum().item() for run in runs}) == 4
    mean = torch.stack([run["own"]["1.running_mean"] for run in runs]).mean(0)
    for run in runs:
        assert close_to(run["average"], runs[0]["average"]) == 0
        assert close_to(run["average"], run["inside"]) == close_to(run["average"], saved) == 0
        assert close_to(run["own"], run["back"]) == 0
        assert close_to(run["finished"], runs[0]["finished"]) == 0
        torch.testing.assert_close(run["average"]["1.running_mean"], mean)


def test_workers_run_out_of_batches_at_different_times(found: Found) -> None:
    joined = [found[rank]["join"] for rank in RANKS]
    assert [each["own"] for each in joined] == [3, 3, 2, 2]
    assert [(each["steps"], each["even"]) for each in joined] == [(3, True)] * 4


def test_several_models_gossip_each_by_itself(found: Found, folder: Path) -> None:
    for rank in RANKS:
        two = found[rank]["two"]
        for kept, loaded in zip(two["kept"], two["loaded"], strict=True):
            assert close_to(kept, loaded) == 0
        assert close_to(*two["kept"]) > 0
        assert close_to(two["third"], found[0]["two"]["third"]) == 0
    assert close_to(found[0]["two"]["kept"][1], found[1]["two"]["kept"][1]) > 0
    assert {path.name for path in (folder / "two").glob("gossip*")} == {"gossip", "gossip-1"}


def test_what_cannot_work_is_refused(found: Found) -> None:
    no_optimizer, other_norm, inside, wrapped = found[0]["said"]
    assert no_optimizer == "no model gossips: give prepare() the model and the optimizer over it"
    assert "clip them there, with gossip={'max_norm': 2.0, ...}" in other_norm
    assert inside.startswith("save_state() inside averaged()")
    assert "GossipTrainer or GossipAccelerator" in wrapped


def test_a_compiled_model_comes_to_the_same(found: Found) -> None:
    plain, compiled = found[1]["compiled"]["no"], found[1]["compiled"]["eager"]
    assert (plain["kind"], compiled["kind"]) == ("Sequential", "OptimizedModule")
    unwrapped = {name.removeprefix("_orig_mod."): tensor for name, tensor in compiled["weights"].items()}
    assert close_to(plain["weights"], unwrapped) == 0
    assert plain["keys"] == compiled["keys"] == list(plain["weights"])

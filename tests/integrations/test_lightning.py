"""``GossipStrategy`` in four real workers: what Lightning's own ``Trainer`` does, and what gossip adds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sgp_core.integrations.beside import find_folder, new_folder, remove_folders
from sgp_core.integrations.which_lightning import find_lightning
from tests.docs.pages import EXAMPLES
from tests.support.preloaded import run_preloaded
from tests.workers.lightning import BATCHES, EPOCHS, GOSSIPS, HALF, use_lightning

RANKS = range(4)
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = str(tmp_path_factory.mktemp("lightning"))
    return run_preloaded(["lightning.pytorch"], 4, use_lightning, folder)


def same(one: list[Tensor], other: list[Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", GOSSIPS)
def test_a_resume_has_the_same_bits(found: Found, name: str, rank: int) -> None:
    run = found[rank][name]
    assert len(run["models"]) == EPOCHS * BATCHES
    assert all(same(run["models"][HALF * BATCHES :], run["resumed"]))
    assert torch.equal(run["end"], run["resumed end"])


@pytest.mark.parametrize("rank", RANKS)
def test_what_is_saved_after_fit_goes_on_with_the_same_bits(found: Found, rank: int) -> None:
    whole, run = found[rank]["sgp"]["models"], found[rank]["after fit"]
    assert all(same(whole[HALF * BATCHES :], run["resumed"]))
    assert len(run["beside"]) == 2, "the file, and the folder of its last save"
    assert run["left"] == []


@pytest.mark.parametrize("rank", RANKS)
def test_callbacks_may_exchange_weights_while_the_average_is_validated(found: Found, rank: int) -> None:
    assert all(same(found[rank]["sgp"]["models"][: HALF * BATCHES], found[rank]["after fit"]["models"]))


@pytest.mark.parametrize("name", GOSSIPS)
def test_replicas_differ_and_mass_is_conserved(found: Found, name: str) -> None:
    models = [run[name]["models"] for run in found]
    assert all((models[0][step] - models[1][step]).abs().max() > 1e-4 for step in (0, 4, -1) if name == "sgp")
    assert not torch.equal(models[0][-1], models[1][-1])
    weights = torch.tensor([run[name]["weights"] for run in found])
    if name == "overlapped":
        assert weights.max() < 1  # the rest is under way
    else:
        torch.testing.assert_close(weights.sum(0), torch.full((EPOCHS * BATCHES,), 4.0), rtol=0, atol=1e-6)
    assert (weights - 1).abs().max() > 0.1 or name == "osgp"


@pytest.mark.parametrize("name", GOSSIPS)
def test_the_average_is_validated_saved_and_left(found: Found, name: str) -> None:
    seen = [run[name]["validated"] for run in found]
    assert len(seen[0]) >= EPOCHS
    assert all(all(same(seen[0], each)) for each in seen)
    for run in found:
        assert torch.equal(run[name]["file"], run[name]["end"])
        assert torch.equal(run[name]["file"], seen[0][-1])
        assert run[name]["tested"] == found[0][name]["tested"]
        assert run[name]["predicted"]
    if name == "sgp":
        mean = sum(run[name]["models"][-1] * run[name]["weights"][-1] for run in found) / 4
        parameters = slice(0, 6 * 8 + 8)
        torch.testing.assert_close(seen[0][-1][parameters], mean[parameters], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank", RANKS)
def test_validation_leaves_every_worker_its_own_model(found: Found, rank: int) -> None:
    for name in GOSSIPS:
        run = found[rank][name]
        assert all(same(run["models"][BATCHES - 1 :: BATCHES], run["after epochs"]))


@pytest.mark.parametrize("rank", RANKS)
def test_allreduce_takes_the_steps_of_ddp(found: Found, rank: int) -> None:
    run = found[rank]["ddp"]
    parameters = slice(0, 6 * 8 + 8)
    for theirs, ours in zip(run["ddp"], run["allreduce"], strict=True):
        torch.testing.assert_close(ours[parameters], theirs[parameters], rtol=0, atol=1e-6)
    assert not torch.equal(run["ddp"][0][parameters], run["ddp"][-1][parameters])
    assert torch.equal(run["allreduce"][0], run["allreduce"][0])


def test_a_checkpoint_of_ddp_starts_all_workers_alike(found: Found) -> None:
    models = [run["ddp"]["from ddp"] for run in found]
    assert [len(each) for each in models] == [BATCHES] * 4
    before, after = found[0]["ddp"]["ddp"][-1], models[0][0]
    assert (after - before)[:56].abs().max() < 0.05
    assert not torch.equal(models[0][0], models[1][0])


def test_models_stepped_by_hand_are_exchanged_when_the_last_has_stepped(found: Found) -> None:
    for run in found:
        assert run["by hand"]["steps"] == [1, 2, 3, 4]
        assert torch.equal(run["by hand"]["end"], found[0]["by hand"]["end"])
        mean = sum(each["by hand"]["model"] for each in found) / 4
        torch.testing.assert_close(run["by hand"]["end"], mean)


def test_slurms_signal_on_one_worker_saves_all_between_two_steps(found: Found) -> None:
    for rank, run in enumerate(found):
        assert run["requeue"]["commands"] == ([["scontrol", "requeue", "77"]] if rank == 0 else [])
        assert run["requeue"]["files"] == ["0", "1", "2", "3"]
        assert 5 < run["requeue"]["step"] <= 8


def test_all_workers_leave_out_a_step_whose_gradients_overflow_on_one(found: Found) -> None:
    for run in found:
        assert run["overflow"] == {"scale": 4.0, "steps": [1, 2, 3, 3]}


def test_mistakes_are_refused_in_a_sentence(found: Found) -> None:
    said = found[0]["refused"]
    assert "wrapped in DistributedDataParallel" in said["ddp"]
    assert "GossipStrategy" in said["ddp"]
    assert "returns no optimizer" in said["still"]
    assert "algorithm sgp, Gossip is built with dpsgd" in said["other"]
    assert said["other"].endswith("GossipStrategy(..., reshape=True)")
    assert said["reshaped"] == str((EPOCHS - HALF - 1) * BATCHES)
    assert "'find_unused_parameters' is about DDP" in said["option of ddp"]
    assert "did you mean 'topology'" in said["unknown option"]
    assert "rank-3-" in said["rank"]
    assert "the state of every worker, is missing" in said["folder"]
    assert all(run["refused"].keys() == said.keys() for run in found)


def test_the_example_learns_stops_and_goes_on(found: Found) -> None:
    assert len((EXAMPLES / "lightning_trainer.py").read_text().splitlines()) <= 40
    first, second = found[0]["example"]
    assert (first["step"], second["step"], second["epoch"]) == (10, 15, 3)
    assert second["val_loss"] < first["val_loss"] < 5.5  # log 256 = 5.55 at the start
    assert all(run["example"] == found[0]["example"] for run in found)


def test_folders_beside_a_file(tmp_path: Path) -> None:
    file = tmp_path / "epoch=1 [a].ckpt"
    old, new, other = new_folder(file), new_folder(file), new_folder(tmp_path / "epoch=11 [a].ckpt")
    for folder in (old, new, other):
        folder.mkdir()
    remove_folders(file, keep=new)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])
    link = tmp_path / "links" / "last.ckpt"
    link.parent.mkdir()
    file.touch()
    link.symlink_to(file)
    assert find_folder(link, new.name) == new
    assert not any(character.isdigit() for character in new.name.partition(".gossip-")[2])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sgp_core.integrations.lightning", raising=False)
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'stochastic-gradient-push\[lightning\]'"):
        importlib.import_module("sgp_core.integrations.lightning")


def test_the_package_that_a_script_has_imported_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_lightning() == "lightning.pytorch"
    monkeypatch.delitem(sys.modules, "lightning.pytorch", raising=False)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
    assert find_lightning() == "pytorch_lightning"
    monkeypatch.setitem(sys.modules, "lightning.pytorch", ModuleType("lightning.pytorch"))
    assert find_lightning() == "lightning.pytorch"

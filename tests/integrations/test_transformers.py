"""``GossipTrainer`` in four real workers: what Hugging Face's own ``Trainer`` does, and what gossip adds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.preloaded import run_preloaded
from tests.workers.hugging_face import GOSSIPS, HALF, STEPS, use_the_trainer

RANKS = range(4)
PACKAGES = ["transformers.trainer", "transformers.models.gpt2.modeling_gpt2"]
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hugging_face")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return run_preloaded(PACKAGES, 4, use_the_trainer, str(folder))


def rows(history: list[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in history if key in row]


def own_states(checkpoint: Path) -> list[dict[str, Any]]:
    """Return what every worker has saved of itself, without the time that it took."""
    shards = json.loads((checkpoint / "gossip" / "manifest.json").read_text())["shards"]
    states = [torch.load(checkpoint / "gossip" / shard["file"], weights_only=True) for shard in shards]
    for state in states:
        del state["gossip"]["seconds"]
    return states


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return where two saved states differ in a single bit."""
    if isinstance(one, Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        found = [] if one.keys() == other.keys() else [path]
        return found + [each for key in one for each in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        found = [] if len(one) == len(other) else [path]
        return found + [
            each for n, (a, b) in enumerate(zip(one, other, strict=True)) for each in differences(a, b, f"{path}/{n}")
        ]
    return [] if one == other else [path]


@pytest.mark.parametrize("rank", RANKS)
def test_allreduce_is_what_ddp_does(found: Found, rank: int) -> None:
    """Accumulated over two batches, or one where an epoch ends, weighted by tokens, and clipped."""
    theirs, ours = found[rank]["ddp"]["weights"]
    for name, tensor in theirs.items():
        if name != "seen":
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)
    for key, count in (("loss", 4), ("grad_norm", 4), ("eval_loss", 2), ("learning_rate", 4)):
        of_ddp, of_ours = (rows(history, key) for history in found[rank]["ddp"]["history"])
        assert of_ours == pytest.approx(of_ddp, abs=1e-6)
        assert len(of_ours) == count
    assert min(rows(found[0]["ddp"]["history"][0], "grad_norm")) > 0.5, "nothing was clipped"


@pytest.mark.parametrize("name", GOSSIPS)
def test_a_resumed_training_is_the_same_to_the_bit(found: Found, folder: Path, name: str) -> None:
    whole = own_states(folder / name / f"checkpoint-{STEPS}")
    again = own_states(folder / f"{name}-again" / f"checkpoint-{STEPS}")
    assert [differences(*pair) for pair in zip(whole, again, strict=True)] == [[]] * 4
    for rank in RANKS:
        in_one_go, resumed = found[rank][name]["history"], found[rank][name]["history again"]
        assert rows(in_one_go, "loss") == rows(resumed, "loss")
        assert rows(in_one_go, "eval_loss")[:2] == rows(resumed, "eval_loss")


@pytest.mark.parametrize("name", GOSSIPS)
def test_replicas_differ_and_their_average_is_what_is_evaluated_and_saved(
    found: Found, folder: Path, name: str
) -> None:
    states = own_states(folder / name / f"checkpoint-{STEPS}")
    assert any(differences(states[0]["gossip"]["parameters"], state["gossip"]["parameters"]) for state in states)
    assert min(found[0][name]["history"][-3]["eval_consensus_distance"], found[0][name]["bytes"]) > 0
    losses = [rows(found[rank][name]["history"], "eval_loss") for rank in RANKS]
    assert losses == [losses[0]] * 4
    assert found[0][name]["final loss"] == losses[0][1], "what train() leaves is the average"

    saved = load_file(folder / name / f"checkpoint-{STEPS}" / "model.safetensors")
    final = load_file(folder / f"{name}-final" / "model.safetensors")
    seen = torch.stack([state["buffers"]["seen"] for state in states])
    assert len(set(seen.flatten().tolist())) == 4
    for rank in RANKS:
        for key, tensor in saved.items():
            torch.testing.assert_close(found[rank][name]["weights"][key], tensor, rtol=0, atol=1e-7)
            assert torch.equal(found[rank][name]["weights"][key], final[key])
    torch.testing.assert_close(saved["seen"], seen.mean(0))


def test_push_sum_conserves_its_mass(found: Found, folder: Path) -> None:
    """Of a star, whose centre gathers weight: the saved average is ``sum_i x_i / n``, and the weights sum to ``n``."""
    states = own_states(folder / "sgp" / f"checkpoint-{STEPS}")
    weights = [state["gossip"]["push_sum_weight"] for state in states]
    assert weights == [found[rank]["sgp"]["push_sum_weight"] for rank in RANKS]
    assert sum(weights) == pytest.approx(4, abs=1e-12)
    assert weights[0] > 1.5
    [*parameters] = zip(*(state["gossip"]["parameters"] for state in states), strict=True)
    numerators = [sum(w * z.double() for w, z in zip(weights, each, strict=True)) / 4 for each in parameters]
    saved = load_file(folder / "sgp" / f"checkpoint-{STEPS}" / "model.safetensors")
    assert torch.cat([each.flatten() for each in numerators]).sum().item() == pytest.approx(
        sum(tensor.double().sum().item() for key, tensor in saved.items() if key != "seen"), abs=1e-4
    )


def test_loss_falls(found: Found) -> None:
    for name in GOSSIPS:
        losses = rows(found[0][name]["history"], "loss")
        assert losses[-1] < losses[0] - 0.05


def test_a_signal_to_one_worker_stops_all_after_the_same_step(found: Found, folder: Path) -> None:
    stopped = {"step": 3, "last": str(folder / "stopped" / "checkpoint-3"), "handler": True}
    assert [found[rank]["stop_together"] for rank in RANKS] == [stopped] * 4


def test_the_best_average_is_loaded_and_training_may_go_on(found: Found, folder: Path) -> None:
    best = load_file(folder / "best" / f"checkpoint-{HALF}" / "model.safetensors")
    for rank in RANKS:
        chosen = found[rank]["choose_the_best"]
        assert differences(chosen["weights"], {**chosen["weights"], **best}) == []
        assert differences(chosen["trained on"], found[0]["choose_the_best"]["trained on"]) == []
    assert differences(chosen["trained on"], chosen["weights"])


def test_steps_inside_backward_come_to_the_same(found: Found) -> None:
    """Clipped and accumulated, too; the norm before clipping is not known there."""
    weights, history = (found[2]["step_otherwise"][key] for key in ("weights", "history"))
    assert differences(weights["plain"], weights["backward"]) == []
    assert rows(history["plain"], "loss") == rows(history["backward"], "loss")
    assert rows(history["plain"], "grad_norm")[0] > 0.5
    assert math.isnan(*rows(history["backward"], "grad_norm"))


def test_bf16_keeps_parameters_in_full_precision(found: Found) -> None:
    weights = found[0]["step_otherwise"]["weights"]
    assert {tensor.dtype for tensor in weights["bf16"].values()} == {torch.float32}
    assert differences(weights["plain"], weights["bf16"])
    for key, tensor in weights["plain"].items():
        torch.testing.assert_close(weights["bf16"][key], tensor, rtol=0, atol=0.05)


def test_checkpoints_are_those_of_the_plain_trainer_as_well(found: Found) -> None:
    changed = found[0]["change_trainers"]
    assert changed["steps"] == [HALF, STEPS, STEPS, STEPS]
    losses = rows(changed["history"], "loss")
    assert losses == sorted(losses, reverse=True)
    assert "algorithm" in changed["refused"]
    before, after = (rows(history, "loss") for history in (found[0]["sgp"]["history"], changed["reshaped"]))
    assert after[:2] == before[:2], "what was logged before the checkpoint"
    assert len(after) == len(before)


def test_ddp_is_refused_with_the_cure(found: Found) -> None:
    for said in found[3]["wrap_in_ddp"].values():
        assert "wrapped in DistributedDataParallel" in said
        assert "GossipTrainer or GossipAccelerator" in said
    assert len(found[3]["wrap_in_ddp"]) == 3


def test_the_loop_of_the_page_resumes_to_the_bit(found: Found, folder: Path) -> None:
    whole, halves = own_states(folder / "loop-whole"), own_states(folder / "loop-halves")
    assert [differences(*pair) for pair in zip(whole, halves, strict=True)] == [[]] * 4
    in_one_go, half, resumed = found[0]["run_the_loop"]["said"]
    assert in_one_go == resumed
    first, last = (float(said.split("loss of the average ")[1]) for said in (half, resumed))
    assert last < first < 5.6  # ln 256 is 5.5
    assert found[1]["run_the_loop"]["said"] == ["", "", ""]

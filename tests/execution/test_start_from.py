"""Runs that start from others: from their weights (``model.weights``), or where they ended (``extend``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import ResNet18_Weights, resnet18

from launcher.config.make_plan import make_plan
from launcher.config.run_plan import plan_of_spec
from sgp_core.errors import ConfigurationError
from sgp_core.training.assembly import assemble
from sgp_core.training.peers import Peers
from tests.support.command_line import composed
from tests.support.launched import Said, read
from tests.support.sgp_command import Said as Answer

Train = Callable[..., Said]
QUICK = ("cluster=inline", "tracker=none", "log_every=1", "training.batch_size=512", "evaluation.batch_size=2000")
MEASURED = ("loss", "lr", "accuracy", "step", "split")


def train(sgp_train: Train, here: Path, *words: str) -> tuple[Said, Path]:
    """Train a run, and return its folder."""
    before = set(here.glob("runs/[0-9a-f]*"))
    said = sgp_train(*words)
    assert said.code == 0, said.err
    [folder] = set(here.glob("runs/[0-9a-f]*")) - before
    return said, folder


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: row.get(key) for key in MEASURED} for row in map(json.loads, lines)]


def test_a_run_starts_from_the_weights_of_another(sgp_train: Train, here: Path) -> None:
    _, first = train(sgp_train, here, *QUICK, "training.epochs=1")
    _, second = train(
        sgp_train,
        here,
        *QUICK,
        "training.max_steps=1",
        "optimizer.lr=1e-9",
        f"model.weights={first.name[:6]}",
        "seed=5",
    )
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor)
    spec = read(second / "spec.json")["experiment"]["model"]
    assert spec["weights"] == str(first / "model.safetensors")
    assert len(spec["weights_sha256"]) == 64
    refused = sgp_train(*QUICK, "model.hidden=[8]", f"model.weights={first.name}")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "4 parameters differ" not in refused.err
    assert "choose the model with the options that it was saved with" in refused.err


def test_identity_is_the_content_of_the_weights_and_only_where_given(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
    ids = [make_plan(composed(f"model.weights={tmp_path / name}")).run_id for name in ("a.pt", "b.pt", "c.pt")]
    assert ids[0] == ids[1] != ids[2]
    usual = make_plan(composed()).run_id
    assert make_plan(composed("model.weights=null", "model.weights_except=[]")).run_id == usual
    assert usual not in ids
    except_ = make_plan(composed(f"model.weights={tmp_path / 'a.pt'}", "model.weights_except=[3]"))
    assert except_.run_id not in (*ids, usual)


def test_torchvisions_weights_are_taken_from_the_disk_and_never_downloaded(
    sgp_train: Train, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(here / "cache"))
    words = ["model=torchvision", "model.weights=pretrained", "dataset=synthetic_images"]
    name = ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    with pytest.raises(ConfigurationError, match=f"{name} is not there, and nothing is downloaded unasked"):
        make_plan(composed(*words))
    file = here / "cache" / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    torch.save(resnet18(num_classes=1000).state_dict(), file)
    assert make_plan(composed(*words)).experiment.model["weights"] == str(file)
    said = sgp_train(*words, "cluster=inline", "tracker=none", "training.max_steps=1")
    assert said.code == 2
    assert "a layer for another number of classes starts anew with model.weights_except=[fc]" in said.err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.weights=gone.safetensors", "model.weights=gone.safetensors: there is no such file"),
        ("model.weights=abc", "model.weights=abc: there is no such run in "),
        ("model.weights=pretrained", "model.weights=pretrained: model=mlp has no such weights; name a file or a run"),
        ("model.weights_except=[fc]", "model.weights_except needs model.weights"),
        ("extend=abc", "extend=abc: there is no such run in "),
    ],
)
def test_what_is_not_there_is_a_sentence(word: str, message: str, sgp_train: Train, here: Path) -> None:
    said = sgp_train(word)
    assert said.code == 2
    assert said.err.startswith(f"sgp-train: {message}")
    assert len(said.err.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_an_extended_run_is_the_one_that_was_never_shorter(
    sgp_train: Train, sgp: Callable[..., Answer], here: Path
) -> None:
    _, short = train(sgp_train, here, *QUICK, "training.epochs=2", "optimizer.lr=0.1")
    _, long = train(sgp_train, here, *QUICK, "training.epochs=4", "optimizer.lr=0.1")
    said, extended = train(sgp_train, here, f"extend={short.name[:6]}", "training.epochs=4")
    assert (
        f"goes on from step 6 of {short.name}: the learning rate was 0.1 at that step and is 0.1 at the next"
        in said.out
    )
    assert rows(extended) == rows(long)
    assert read(extended / "spec.json")["experiment"]["extends"] == {"run": short.name, "step": 6}
    assert f"step 6 of run {short.name}" in sgp("status", extended.name).out
    assert "is complete already" in sgp_train(f"extend={short.name}", "training.epochs=4").out
    shutil.rmtree(extended / "checkpoints")
    with pytest.raises(
        ConfigurationError, match=f"goes on from step 6 of run {short.name}, and its folder has no check"
    ):
        assemble(plan_of_spec(read(extended / "spec.json")).experiment, torch.device("cpu"), Peers(torch.device("cpu")))


def test_a_schedule_that_follows_the_end_is_told(sgp_train: Train, here: Path) -> None:
    _, short = train(sgp_train, here, *QUICK, "training.epochs=1", "schedule=cosine")
    said = sgp_train(f"extend={short.name}", "training.epochs=2", "dry_run=true")
    assert "the learning rate was 0.0125 at that step and is 0.025 at the next" in said.out
    assert "since schedule=cosine is now that of 6 steps" in said.out
    for words, message in (
        (("training.epochs=1",), "has trained 3 steps, and this one would end at step 3; give more training.epochs"),
        (("training.epochs=2", "optimizer.lr=0.5"), "optimizer.lr is 0.05 there and 0.5 here; only training.epochs,"),
        (
            ("training.epochs=2", "runs_dir=other", f"extend={short}"),
            f"not in {here}/other; extend it there: runs_dir=",
        ),
    ):
        refused = sgp_train(*(() if "runs_dir=other" in words else (f"extend={short.name}",)), *words)
        assert (refused.code, len(refused.err.splitlines())) == (2, 1)
        assert message in refused.err

"""``sgp generate`` and ``sgp export --format``: what a language model of a run writes, and mistakes in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgp_core.tasks.language_modelling.generator import load_generator
from sgp_core.tasks.language_modelling.sampling import Sampling
from sgp_core.training.config import CheckpointConfig, Experiment
from sgp_core.training.loop import train
from tests.support.language_models import LLAMA, make_language_model
from tests.support.run_folders import make_run
from tests.support.sgp_command import Said
from tests.training import tiny

RUN, IMAGES, TRAINED = "7a00000001", "7a00000002", "7a00000003"
Ask = Callable[..., Said]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a made up run, of one that classifies images, and of one that was really trained."""
    root = tmp_path_factory.mktemp("languages")
    runs = root / "runs"
    make_language_model(make_run(runs, RUN, model=LLAMA, dataset={"name": "text"}))
    images = make_run(runs, IMAGES)
    (images / "model.safetensors").write_bytes(b"")
    (images / "model.json").write_text(json.dumps({"kind": "images", "model": {"name": "mlp"}}))
    text = {"name": "text", "vocabulary": 300, "context": 16, "cache": str(root / "cache")}
    choices = {"dataset": text, "model": LLAMA, "optimizer": {"name": "adamw", "lr": 0.003}}
    experiment: Experiment = tiny.experiment(1, choices=choices, batch_size=8, epochs=1, max_steps=6)
    folder = runs / TRAINED
    often = CheckpointConfig(every_steps=3, every_epochs=0, keep_last=9)
    train(experiment, directory=folder, **tiny.settings(checkpoint=often))
    (folder / "spec.json").write_text(json.dumps({"run_id": TRAINED, "experiment": experiment.to_dict()}))
    (folder / "summary.json").write_text(json.dumps({"run_id": TRAINED, "status": "completed"}))
    return runs


@pytest.fixture
def ask(sgp: Ask, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Call ``sgp`` beside copies of the runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs, "runs")
    return sgp


def test_the_prompt_and_what_follows(ask: Ask) -> None:
    generator = load_generator(Path("runs", RUN, "model.safetensors"))
    expected = "".join(generator("In the ", 30, Sampling(temperature=0.7, top_k=50, top_p=0.9, seed=3)))
    options = ["--tokens", 30, "--temperature", 0.7, "--top-k", 50, "--top-p", 0.9, "--seed", 3]
    said = ask("generate", RUN, "--prompt", "In the ", *options)
    assert said == Said(0, f"In the {expected}\n", "")
    assert len(expected) > 20
    found = ask("generate", RUN, "--prompt", "In the ", *options, "--json").json
    assert (found["prompt"], found["text"], found["tokens"], found["ended"]) == ("In the ", expected, 30, False)
    assert (found["model"], found["seed"], found["top_k"]) == (f"runs/{RUN}/model.safetensors", 3, 50)
    assert ask("generate", RUN, "--seed", 1).out != ask("generate", RUN).out == ask("generate", RUN).out


def test_a_run_that_has_not_ended_writes_with_its_last_checkpoint(ask: Ask) -> None:
    folder = Path("runs", TRAINED)
    finished = ask("generate", TRAINED, "--prompt", "And")
    first = ask("generate", TRAINED, "--prompt", "And", "--step", 3)
    assert finished.code == first.code == 0
    assert finished.out != first.out
    (folder / "model.safetensors").unlink()
    (folder / "summary.json").write_text(json.dumps({"run_id": TRAINED, "status": "failed"}))
    files = sorted(folder.rglob("*"))
    assert ask("generate", TRAINED, "--prompt", "And") == finished
    assert sorted(folder.rglob("*")) == files
    assert ask("generate", TRAINED, "--step", 3, "--json").json["step"] == "3"
    shutil.rmtree(folder / "checkpoints")
    refused(ask("generate", TRAINED), f"runs/{TRAINED} has no complete checkpoint yet")


def test_transformers_loads_what_is_exported_for_it(ask: Ask) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    said = ask("export", TRAINED, "--format", "transformers")
    assert said.out.startswith(f"runs/{TRAINED}/transformers: averaged gpt at step 6, perplexity ")
    model = AutoModelForCausalLM.from_pretrained(f"runs/{TRAINED}/transformers")
    assert (
        model.config.max_position_embeddings
        == AutoTokenizer.from_pretrained(f"runs/{TRAINED}/transformers").model_max_length
    )
    found = ask("export", TRAINED, "--step", 3, "--format", "transformers", "--json").json
    assert (found["folder"], found["step"]) == (f"runs/{TRAINED}/transformers-step-3", 3)
    assert ask("export", TRAINED, "--format", "transformers", "--out", "there").code == 0
    files = [sorted(path.name for path in Path(folder).iterdir()) for folder in (found["folder"], "there")]
    assert files[0] == files[1]
    assert not list(Path("runs", TRAINED).glob("model-step-*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", IMAGES], f"runs/{IMAGES}/model.safetensors is not a language model; name a run that predicts"),
        (["generate", "ffff"], "no run or sweep 'ffff'"),
        (["generate", RUN, "--top-k", "0"], "top_k must be at least 1, not 0"),
        (["generate", RUN, "--prompt", os.fsdecode(b"\xff")], "the prompt is not UTF-8 text"),
        (["generate", RUN, "--model", "nowhere.safetensors"], "cannot read nowhere.json: No such file or directory"),
        (["export", RUN, "--format", "onnx"], "unknown format 'onnx'; known: transformers"),
        (["export", IMAGES, "--format", "transformers"], "--format transformers: that is for a model that predicts"),
        (["export", RUN, "--format", "transformers", "--out", "runs"], "runs holds something else, such as 7a00000001"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[Any], says: str, ask: Ask) -> None:
    refused(ask(*arguments), says)


def test_damaged_models_are_named(ask: Ask) -> None:
    folder = Path("runs", RUN)
    whole = json.loads((folder / "model.json").read_text())
    for change in ({"context": None}, {"context": 0}, {"context": "16"}, {"vocabulary": 10**6}, {"model": {}}):
        (folder / "model.json").write_text(json.dumps({**whole, **change}))
        refused(ask("generate", RUN), f"runs/{RUN}/model.")
    (folder / "model.json").write_text(json.dumps({**whole, "model": {**LLAMA, "layers": 10**12}}))
    refused(ask("generate", RUN), "is damaged, or not what model.json says it is")


def refused(said: Said, says: str) -> None:
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("sgp: ")
    assert said.err.count("\n") == 1

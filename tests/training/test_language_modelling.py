"""Language models are trained like anything else: same loop, same rows, same resume."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training import stopping
from sgp_core.training.config import Experiment, LoaderConfig
from sgp_core.training.loop import Preempted, train
from tests.training import tiny

MODEL = {"name": "gpt", "size": "tiny", "width": 32, "heads": 2, "hidden": 64, "layers": 2, "dropout": 0.1}
CONTEXT, BATCH = 32, 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tokens are kept."""
    return tmp_path_factory.mktemp("cache")


def make(cache: Path, **training: Any) -> Experiment:
    text = {"name": "text", "vocabulary": 400, "context": CONTEXT, "cache": str(cache)}
    choices = {"dataset": text, "model": {**MODEL}, "optimizer": {"name": "adamw", "lr": 0.003}}
    return tiny.experiment(1, choices=choices, **{"batch_size": BATCH, "epochs": 1, **training})


def run(directory: Path, experiment: Experiment, **settings: Any) -> dict[str, Any]:
    tracker = JsonlTracker(directory / "metrics.jsonl")
    return train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**settings))


def test_it_learns_and_its_rows_say_what_the_field_compares(tmp_path: Path, cache: Path) -> None:
    summary = run(tmp_path, make(cache, max_steps=60))
    rows = read_rows(tmp_path / "metrics.jsonl")
    [val] = (row for row in rows if row["split"] == "val")
    assert val["loss"] < math.log(400) - 1
    assert val["perplexity"] == pytest.approx(math.exp(val["loss"]))
    assert 0 < val["bits_per_byte"] < 4.5
    assert summary["best"]["bits_per_byte"] == val["bits_per_byte"]
    for row in rows:  # a window is so many tokens
        assert row["tokens_per_s"] == pytest.approx(CONTEXT * row["samples_per_s"])
    bpe = ByteBpe.load(tmp_path / "tokenizer.json")
    assert bpe.decode(bpe.encode(["In the beginning\n"])) == ["In the beginning\n"]


def test_stopping_in_the_middle_of_an_epoch_changes_no_bit(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_SECONDS_BETWEEN", 0.0)
    experiment = make(cache, max_steps=12, accumulation_steps=2)
    run(tmp_path / "whole", experiment)
    questions = itertools.count()
    with pytest.raises(Preempted):
        run(tmp_path / "parts", experiment, should_stop=lambda: next(questions) >= 5)
    run(tmp_path / "parts", experiment, loader=LoaderConfig(processes=1))
    states = [tiny.newest_states(tmp_path / name, 1)[0] for name in ("parts", "whole")]
    assert states[0]["cursor"]["steps_per_epoch"] > 12
    tiny.assert_same_bits(*states)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("parts", "whole")]
    assert models[0] == models[1]


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path, cache: Path) -> None:
    models = []
    for parts in (1, 4):
        experiment = make(cache, max_steps=3, accumulation_steps=parts, clip_norm=0.5)
        experiment.model["dropout"] = 0.0
        experiment.optimizer = {"name": "sgd", "lr": 0.5}
        run(tmp_path / str(parts), experiment)
        models.append(load_file(tmp_path / str(parts) / "model.safetensors"))
    for name, parameter in models[0].items():
        torch.testing.assert_close(models[1][name], parameter, rtol=1e-5, atol=1e-6)


def test_a_model_for_other_data_is_refused() -> None:
    from sgp_core.tasks.datasets import DATASETS
    from sgp_core.tasks.kinds import check_task
    from sgp_core.tasks.models import MODELS

    with pytest.raises(ConfigurationError, match="'text' is text to predict; use model=gpt"):
        check_task(MODELS.build("mlp"), DATASETS.build("text"))

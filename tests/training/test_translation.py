"""Translation is trained like anything else: same loop, same resume, same gradient however a batch is cut."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.tokens import PAD
from sgp_core.tasks.translation.translator import BeamSearch, load_translator
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training import stopping
from sgp_core.training.assembly import assemble
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment, LoaderConfig
from sgp_core.training.export import export_checkpoint
from sgp_core.training.loop import Preempted, train
from sgp_core.training.peers import Peers
from tests.support.parallel import write_text
from tests.training import tiny
from tests.workers.training import Workers

MODEL = {
    **{"name": "transformer", "norm": "pre", "width": 16, "feedforward": 32, "heads": 2},
    **{"encoder_layers": 1, "decoder_layers": 1, "dropout": 0.2},
}


@pytest.fixture
def text(tmp_path: Path) -> dict[str, Any]:
    """The choice of a small data set of text."""
    folder = tmp_path / "text"
    folder.mkdir()
    write_text(folder, train=150, val=12, test=9)
    return {
        **{"name": "parallel_text", "path": str(folder), "vocabulary": 60, "max_tokens": 120, "max_length": 60},
        "cache": str(tmp_path / "cache"),
    }


def make(text: dict[str, Any], world_size: int = 1, **training: Any) -> Experiment:
    adam = {"name": "adam", "lr": 0.01}
    return tiny.experiment(
        world_size,
        choices={"dataset": text, "model": MODEL, "optimizer": adam},
        **{"batch_size": 32, "epochs": 2, "label_smoothing": 0.1, **training},
    )


def run(directory: Path, experiment: Experiment, **settings: Any) -> dict[str, Any]:
    tracker = JsonlTracker(directory / "metrics.jsonl")
    return train(experiment, directory=directory, trackers=[tracker], **tiny.settings(**settings))


def rows(directory: Path, split: str) -> list[dict[str, Any]]:
    return [row for row in read_rows(directory / "metrics.jsonl") if row["split"] == split]


def test_the_gradient_is_that_of_the_whole_batch_however_it_is_cut(text: dict[str, Any]) -> None:
    task = assemble(make(text), tiny.CPU, Peers(tiny.CPU)).task
    batch = task.batch(torch.arange(11))
    assert len(set(batch.counts.tolist())) > 3
    vocabulary = task.text.bpe.size
    logits = torch.randn(11, batch.targets.shape[1], vocabulary, dtype=torch.float64, requires_grad=True)
    # by hand: eps / V for every token, 1 - eps more for the right one, per token that is not padding
    logarithms = log_softmax(logits.float(), dim=-1)
    right = -logarithms.gather(2, batch.targets[..., None])[..., 0]
    per_token = 0.9 * right - 0.1 * logarithms.mean(dim=-1)
    by_hand = per_token[batch.targets != PAD].mean()
    (expected,) = torch.autograd.grad(by_hand, logits)

    total = torch.zeros(())
    pieces = logits.tensor_split(4)
    for piece, part in zip(pieces, batch.split(4), strict=True):
        total = total + task.loss(piece, part.targets, 0.1) * (part.count / batch.count)
    (found,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(total, by_hand)
    torch.testing.assert_close(found, expected)
    assert found[batch.targets == PAD].abs().max() == 0

    nll, count = task.statistics(logits.detach(), batch.targets).tolist()
    assert count == batch.count
    assert nll == pytest.approx(right.detach()[batch.targets != PAD].sum().item(), rel=1e-5)
    scores = task.scores([nll, count])
    assert scores == {"loss": nll / count, "perplexity": math.exp(nll / count)}


def test_it_learns_and_says_how_well_it_translates(tmp_path: Path, text: dict[str, Any]) -> None:
    directory = tmp_path / "run"
    experiment = make(text, epochs=12)
    summary = run(directory, experiment, evaluation=EvaluationConfig(every_epochs=4, model="both"))
    val = rows(directory, "val")
    assert [row["perplexity"] for row in val] == [pytest.approx(math.exp(row["loss"])) for row in val]
    assert val[-1]["loss"] < val[0]["loss"] < math.log(60)
    assert [("bleu" in row) for row in val] == [False, False, True]
    assert summary["best"]["loss"] == min(row["loss"] for row in val)
    assert {"loss_local_mean", "loss_local_min", "loss_local_max"} < val[0].keys()
    assert summary["final"]["bleu_signature"].startswith("nrefs:1|")
    assert summary["test"] == {
        "test": {"bleu": summary["test"]["test"]["bleu"], "bleu_signature": val[-1]["bleu_signature"]}
    }
    scores = [manifest.score for manifest in CheckpointStore(directory, 1).manifests()]
    assert max(score for score in scores if score is not None) == -summary["best"]["loss"]

    # what is left behind translates, without the data set, and as well as was said
    description = json.loads((directory / "model.json").read_text())
    bpe = Bpe.load(directory / "tokenizer.json")
    assert description["kind"] == "translation"
    assert (description["vocabulary"], description["tokenizer_sha256"]) == (bpe.size, bpe.digest)
    assert description["scores"]["bleu"] == summary["final"]["bleu"]
    assert description["test"] == summary["test"]
    from sgp_core.tasks.translation.scoring import bleu

    lines = [(Path(text["path"]) / f"test.{language}").read_text().splitlines() for language in ("en", "de")]
    translated = load_translator(directory / "model.safetensors", BeamSearch(), tiny.CPU)(lines[0])
    assert bleu([line.text for line in translated], lines[1]).bleu == pytest.approx(summary["test"]["test"]["bleu"])

    # and a checkpoint exports to the same model, tokenizer included
    store = CheckpointStore(directory, 1, experiment.fingerprint())
    export_checkpoint(directory, experiment, store.manifests()[:1], tmp_path / "out" / "model.safetensors", {})
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (directory / name).read_bytes()


@pytest.mark.parametrize(("when", "measured"), [("always", [True, True]), ("never", [False, False])])
def test_bleu_is_measured_when_it_is_asked_for(
    tmp_path: Path, text: dict[str, Any], when: str, measured: list[bool]
) -> None:
    summary = run(tmp_path / "run", make(text), evaluation=EvaluationConfig(generate=when))
    assert [("bleu" in row) for row in rows(tmp_path / "run", "val")] == measured
    assert ("test" in summary) == measured[-1]


@pytest.mark.parametrize("stops", [[1, 5]])
def test_stopping_in_the_middle_of_an_epoch_changes_no_bit(
    tmp_path: Path, text: dict[str, Any], monkeypatch: pytest.MonkeyPatch, stops: list[int]
) -> None:
    monkeypatch.setattr(stopping, "_SECONDS_BETWEEN", 0.0)
    experiment = make(text, accumulation_steps=2)
    run(tmp_path / "whole", experiment)
    before = 0
    for stop in stops:
        questions = itertools.count()
        with pytest.raises(Preempted):
            run(tmp_path / "parts", experiment, should_stop=lambda q=questions, left=stop - before: next(q) >= left)
        before = stop
    run(tmp_path / "parts", experiment, loader=LoaderConfig(processes=1))
    states = [tiny.newest_states(tmp_path / name, 1)[0] for name in ("parts", "whole")]
    assert states[0]["cursor"]["steps_per_epoch"] > max(stops)
    tiny.assert_same_bits(*states)


def test_sigkill_of_all_workers_in_the_middle_of_an_epoch_changes_no_bit(tmp_path: Path, text: dict[str, Any]) -> None:
    experiment = make(text, world_size=2).to_dict()
    settings = {"checkpoint": CheckpointConfig(every_steps=3, keep_last=2)}
    Workers(tmp_path / "whole", experiment, settings).finish()
    workers = Workers(tmp_path / "parts", experiment, settings)
    workers.wait_for_step(random.Random(0).randint(2, 12))
    workers.kill()
    Workers(tmp_path / "parts", experiment, settings).finish()
    tiny.assert_same_bits(*(tiny.newest_states(tmp_path / name, 2) for name in ("parts", "whole")))
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("parts", "whole")]
    assert models[0] == models[1]
    ends = [
        [(row["step"], row["loss"], row.get("bleu")) for row in rows(tmp_path / n, "val")] for n in ("parts", "whole")
    ]
    assert ends[0] == ends[1]
    assert ends[0][-1][-1] is not None


def test_a_checkpoint_with_another_vocabulary_is_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    run(tmp_path / "run", make(text, max_steps=2))
    for path in Path(text["path"]).glob("train.*"):
        path.write_text(path.read_text().translate(str.maketrans("aeAE", "oaOA")))
    with pytest.raises(ConfigurationError, match="saved with other data: what the model needs of them"):
        run(tmp_path / "run", make(text, max_steps=2))


def test_text_is_measured_in_tokens(text: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"training.batch_size=8: .* use dataset.max_tokens"):
        assemble(make(text, batch_size=8), tiny.CPU, Peers(tiny.CPU))

"""The smallest task: what it computes, and that nothing else had to know of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.metrics import Direction
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.kinds import check_task, task_kind_of
from sgp_core.tasks.models import MODELS
from tests.support.launched import Said

CODE = Path(__file__).parents[3] / "sgp_core" / "tasks" / "regression"


def test_it_trains_from_the_command_line(sgp_train: Callable[..., Said], here: Path) -> None:
    training = ("training.epochs=20", "optimizer.lr=0.01", "evaluation.every_epochs=5")
    said = sgp_train("dataset=diabetes", "model=linear", "cluster=inline", "tracker=none", *training)
    assert said.code == 0
    [run] = here.glob("runs/*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [row["r2"] for row in rows if row["split"] == "val"]
    assert len(scores) == 4
    summary = json.loads((run / "summary.json").read_text())
    assert summary["final"]["r2"] > 0.3
    assert summary["best"]["r2"] == max(scores)
    model = json.loads((run / "model.json").read_text())
    assert (model["kind"], model["features"], model["scores"].keys()) == ("regression", 10, {"loss", "r2"})


def test_the_loss_is_the_mean_squared_error_and_the_score_what_of_the_variance_is_explained() -> None:
    task: Any = DATASETS.build("diabetes").load()
    assert (len(task.train), len(task.validation), task.describe()) == (354, 88, {"features": 10})
    parts = [task.validation_batch(indices) for indices in task.validation_indices(0, 1, 50)]
    predictions = [batch.inputs[0][:, 2] for batch in parts]
    sums = sum(task.statistics(*pair) for pair in zip(predictions, (batch.targets for batch in parts), strict=True))
    targets, guesses = torch.cat([batch.targets for batch in parts]).double(), torch.cat(predictions).double()
    errors = (guesses - targets).square().mean()
    assert task.scores(sums.tolist()) == pytest.approx(
        {"loss": float(errors), "r2": 1 - float(errors / targets.var(correction=0))}
    )
    assert float(task.loss(predictions[0], parts[0].targets, 0.0)) == pytest.approx(
        float((predictions[0] - parts[0].targets).square().mean())
    )


def test_its_words_and_its_score_are_its_own() -> None:
    assert (task_kind_of("diabetes").score, task_kind_of("diabetes").direction) == ("r2", Direction.maximize)
    with pytest.raises(ConfigurationError, match=r"classifies images, but dataset 'diabetes' is numbers .* use model="):
        check_task(MODELS.build("mlp"), DATASETS.build("diabetes"))


def test_it_takes_less_than_sixty_lines_of_code() -> None:
    import ast

    count = 0
    for path in CODE.glob("*.py"):
        tree = ast.parse(path.read_text())
        prose: set[int] = set()
        for node in ast.walk(tree):
            body = getattr(node, "body", [])
            for entry in body if isinstance(body, list) else []:
                if isinstance(entry, ast.Expr) and isinstance(entry.value, ast.Constant):
                    prose |= set(range(entry.lineno, (entry.end_lineno or 0) + 1))
        lines = path.read_text().splitlines()
        count += sum(
            bool(line.strip()) and number not in prose and not line.strip().startswith(("from ", "import ", "#"))
            for number, line in enumerate(lines, start=1)
        )
    assert count < 60

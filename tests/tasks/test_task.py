"""The seam between training and what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.metrics import LOSS, Direction, Metric
from sgp_core.tasks.base import Batch
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.kinds import TASKS, TaskKind, check_task, register_task, task_kind_of
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.models import TranslationModel


def test_parts_of_a_batch_hold_each_example_and_its_targets_once() -> None:
    batch = Batch((torch.arange(7), torch.arange(14).view(7, 2)), torch.arange(7) * 10, torch.arange(1, 8))
    parts = list(batch.split(3))
    assert [len(part) for part in parts] == [3, 2, 2]
    assert [part.count for part in parts] == [6, 9, 13]
    assert sum(part.count for part in parts) == batch.count == 28
    for index, tensor in enumerate(batch.inputs):
        assert torch.equal(torch.cat([part.inputs[index] for part in parts]), tensor)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert len(list(batch.split(99))) == 7
    assert Batch((torch.arange(4),), torch.arange(4)).count == 4


def test_workers_beyond_the_validation_examples_have_none() -> None:
    task = DATASETS.build("synthetic_images", image_size=4, train_examples=10, validation_examples=2).load()
    shares = [task.validation_indices(rank, 5, batch_size=4) for rank in range(5)]
    assert [[batch.tolist() for batch in share] for share in shares] == [[[0]], [[1]], [], [], []]


def test_ranks_are_higher_where_the_model_is_better() -> None:
    accuracy, loss = task_kind_of("digits"), task_kind_of("verses")
    assert accuracy.rank({"accuracy": 0.5, "accuracy_local_mean": 0.4}) == 0.5
    assert accuracy.rank({"accuracy": None, "accuracy_local_mean": 0.4}) == 0.4
    assert loss.rank({"loss": 3.0}) == -3.0
    assert accuracy.rank({"loss": 3.0}) is None
    assert accuracy.rank(None) is None


def test_a_model_for_other_data_is_refused_with_those_that_fit() -> None:
    @dataclass(frozen=True)
    class Parrot(TranslationModel):
        def build(self, vocabulary: int) -> nn.Module:
            raise NotImplementedError

    MODELS.register("parrot")(Parrot)
    try:
        with pytest.raises(
            ConfigurationError,
            match=r"model .parrot' translates text, but dataset 'digits' is images to classify; use model=cnn or mlp ",
        ):
            check_task(MODELS.build("parrot"), DATASETS.build("digits"))
    finally:
        MODELS.remove("parrot")
    check_task(MODELS.build("mlp"), DATASETS.build("digits"))


@pytest.mark.parametrize("registry", [MODELS, DATASETS])
def test_every_choice_names_its_task(registry: Any) -> None:
    assert all(registry.get(name).task in TASKS.names() for name in registry.names())


def test_a_kind_of_task_knows_which_scores_are_good() -> None:
    assert [TASKS.get(name).name for name in TASKS.names()] == TASKS.names()
    assert (task_kind_of("digits").score, task_kind_of("digits").direction) == ("accuracy", Direction.maximize)
    assert (task_kind_of("verses").score, task_kind_of("verses").direction) == ("loss", Direction.minimize)


@pytest.mark.parametrize("metrics", [(LOSS,), (LOSS, Metric("wer"))])
def test_a_score_without_facts_is_refused(metrics: tuple[Metric, ...]) -> None:
    class Speech(TaskKind):
        score = "wer"
        does = "transcribes speech"
        holds = "speech"

    Speech.metrics = metrics
    with pytest.raises(ValueError, match="task 'speech': its score 'wer' must be one of its metrics"):
        register_task("speech")(Speech)
    assert "speech" not in TASKS.names()

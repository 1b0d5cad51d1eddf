"""The seam between training and what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import Batch, Kind, Ranking, check_kinds
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.models import MODELS, TranslationModel


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


def test_ranks_are_higher_where_the_model_is_better() -> None:
    accuracy, loss = Ranking("accuracy"), Ranking("loss", higher_is_better=False)
    assert accuracy.of({"accuracy": 0.5, "accuracy_local_mean": 0.4}) == 0.5
    assert accuracy.of({"accuracy": None, "accuracy_local_mean": 0.4}) == 0.4
    assert loss.of({"loss": 3.0}) == -3.0
    assert accuracy.of({"loss": 3.0}) is None
    assert accuracy.of(None) is None


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
            check_kinds(MODELS.build("parrot"), DATASETS.build("digits"))
    finally:
        del MODELS._entries["parrot"]
    check_kinds(MODELS.build("mlp"), DATASETS.build("digits"))


@pytest.mark.parametrize("registry", [MODELS, DATASETS])
def test_every_choice_has_a_kind(registry: Any) -> None:
    assert all(registry.get(name).kind in Kind for name in registry.names())

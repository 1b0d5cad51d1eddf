"""The size of a model is known before its data are read, and is that of the model that trains."""

from __future__ import annotations

from typing import Any

import pytest

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.model_size import count_step_flops, measure_model, size_of
from sgp_core.tasks.models import MODELS


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        (("mlp", {}), ("digits", {})),
        (("cnn", {"width": 8}), ("synthetic_images", {"image_size": 16, "classes": 7})),
        (("linear", {}), ("diabetes", {})),
        (("transformer", {"size": "tiny"}), ("verses", {"vocabulary": 300})),
    ],
)
def test_it_is_that_of_the_model_that_trains(model: tuple[str, Any], dataset: tuple[str, Any]) -> None:
    chosen, data = MODELS.build(model[0], **model[1]), DATASETS.build(dataset[0], **dataset[1])
    expected, size = size_of(data.load().build(chosen)), measure_model(chosen, data)
    assert size == expected
    assert size.bytes == 4 * size.parameters
    assert sum(tensor.numel for tensor in size.layout) == size.parameters


@pytest.mark.parametrize(
    ("model", "dataset", "millions"),
    [
        (("torchvision", {"architecture": "resnet50"}), ("imagenet", {}), 25.557032),
        (("resnet18_cifar", {}), ("cifar10", {}), 11.173962),
        (("mlp", {"hidden": []}), ("fashion_mnist", {}), 0.00785),
    ],
)
def test_no_data_are_needed(model: tuple[str, Any], dataset: tuple[str, Any], millions: float) -> None:
    size = measure_model(MODELS.build(model[0], **model[1]), DATASETS.build(dataset[0], **dataset[1]))
    assert size.parameters == round(millions * 1e6)


def test_operations_of_a_step_are_counted() -> None:
    """Of a linear layer: a multiplication and an addition for each weight and example, thrice."""
    model, data = MODELS.build("mlp", hidden=[]), DATASETS.build("digits")
    assert count_step_flops(model, data, 5) == 3 * 2 * 5 * 64 * 10

"""Images that are made up: the same every time, of every class alike, and learned soon."""

from __future__ import annotations

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS


def test_images_follow_from_their_number() -> None:
    options = {"image_size": 20, "classes": 3, "train_examples": 10, "validation_examples": 4}
    one, two = (DATASETS.build("synthetic_images", **options).load() for _ in range(2))
    assert (one.num_classes, one.example_shape, len(one.train), len(one.validation)) == (3, (3, 20, 20), 10, 4)
    order = torch.tensor([7, 0, 3])
    inputs, targets = one.train.batch(order, torch.Generator().manual_seed(1))
    assert targets.tolist() == [1, 0, 0]
    assert torch.equal(inputs, two.train.batch(order)[0])
    assert inputs.shape == (3, 3, 20, 20)
    assert inputs.min() >= -2.0
    assert inputs.max() <= 2.0
    assert not torch.equal(inputs[1], inputs[2])  # of one class, but not one image
    everything = torch.cat([one.train.batch(torch.arange(10))[0], one.validation.batch(torch.arange(4))[0]])
    assert len({image.numpy().tobytes() for image in everything}) == 14


def test_the_nearest_mean_of_a_class_tells_it() -> None:
    task = DATASETS.build("synthetic_images", image_size=14, classes=5, train_examples=50).load()
    inputs, targets = task.train.batch(torch.arange(50))
    means = torch.stack([inputs[targets == label].mean(0) for label in range(5)])
    others, labels = task.validation.batch(torch.arange(50))
    assert torch.equal((others[:, None] - means).square().sum((2, 3, 4)).argmin(1), labels)


@pytest.mark.parametrize("option", ["image_size", "classes", "train_examples", "validation_examples"])
def test_what_cannot_be_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^dataset.{option} must be at least \d, not 0$"):
        DATASETS.build("synthetic_images", **{option: 0})

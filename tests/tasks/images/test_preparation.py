"""Batches are exactly the stored pixels, normalised; augmentation moves and mirrors them and does nothing else."""

import pytest
import torch

from sgp_core.tasks.images.memory import ImagesInMemory
from sgp_core.tasks.images.prepare import Preparation

IMAGES = torch.randint(256, (20, 3, 8, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(20)


def identity(shift: int = 0, flip: bool = False) -> Preparation:
    return Preparation([0.0] * 3, [1.0] * 3, white=1.0, shift=shift, flip=flip)


def test_batch_holds_the_asked_examples_normalised() -> None:
    examples = ImagesInMemory(IMAGES, TARGETS, Preparation([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]))
    inputs, targets = examples.batch(torch.tensor([3, 0, 19]))
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    expected = (IMAGES[[3, 0, 19]].double() / 255 - mean) / std
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs.double(), expected, atol=2e-6, rtol=0)
    assert targets.tolist() == [3, 0, 19]


@pytest.mark.parametrize(("shift", "flip"), [(2, True), (2, False), (0, True), (1, True)])
def test_every_augmented_image_is_one_of_the_possible_views(shift: int, flip: bool) -> None:
    batch = identity(shift, flip)(IMAGES, torch.Generator().manual_seed(1))
    seen = set()
    for image, result in zip(IMAGES.float(), batch, strict=True):
        padded = torch.nn.functional.pad(image, [shift] * 4)
        views = {
            (top, left, mirrored): view.flip(2) if mirrored else view
            for top in range(2 * shift + 1)
            for left in range(2 * shift + 1)
            for view in [padded[:, top : top + 8, left : left + 6]]
            for mirrored in ([False, True] if flip else [False])
        }
        matches = [key for key, view in views.items() if torch.equal(view, result)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 1


def test_augmentation_is_drawn_from_the_generator_alone() -> None:
    def two(generator: torch.Generator) -> torch.Tensor:
        return torch.stack([identity(2, True)(IMAGES, generator) for _ in range(2)])

    whole = two(torch.Generator().manual_seed(5))
    assert not torch.equal(whole[0], whole[1])
    torch.manual_seed(123)
    generator = torch.Generator().manual_seed(5)
    first = identity(2, True)(IMAGES, generator)
    resumed = torch.Generator()
    resumed.set_state(generator.get_state())
    assert torch.equal(first, whole[0])
    assert torch.equal(identity(2, True)(IMAGES, resumed), whole[1])


def test_without_generator_nothing_moves() -> None:
    assert torch.equal(identity(2, True)(IMAGES, None), IMAGES.float())

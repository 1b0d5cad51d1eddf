"""Handwritten digits that ship with scikit-learn: the default, because it needs no download."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.tasks.datasets.base import DATASETS, Dataset, Splits

_VALIDATION_EXAMPLES = 360
_WHITE = 16.0
"""Pixels are integers 0..16."""
_MEAN, _STD = 0.305, 0.376
"""Of all pixels, after division by ``_WHITE``."""


@DATASETS.register("digits")
@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 scans of handwritten digits, 8x8 grey, 10 classes; 1,437 train, 360 validate (fixed, stratified).

    UCI Optical Recognition of Handwritten Digits (test part), as scikit-learn's ``load_digits``.
    """

    augment: bool = False
    """Train on random crops of the padded image, one pixel either way."""

    def load(self) -> Splits:
        """Read the data from the installed scikit-learn."""
        import numpy as np
        import torch
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        from sgp_core.tasks.images.memory import ImagesInMemory
        from sgp_core.tasks.images.prepare import Preparation

        pixels, targets = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels.astype(np.uint8).reshape(-1, 1, 8, 8))
        labels = torch.from_numpy(targets.astype(np.int64))
        rows = train_test_split(
            np.arange(len(labels)), test_size=_VALIDATION_EXAMPLES, stratify=targets, random_state=0
        )
        preparation = Preparation([_MEAN], [_STD], white=_WHITE, shift=1 if self.augment else 0)
        train, validation = (ImagesInMemory(images[part], labels[part], preparation) for part in rows)
        return Splits(train, validation, num_classes=10, example_shape=(1, 8, 8))

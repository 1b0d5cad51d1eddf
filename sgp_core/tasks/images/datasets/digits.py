"""Handwritten digits that ship with scikit-learn: the default, because it needs no download."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets.base import ImageDataset

if TYPE_CHECKING:
    import numpy as np

    from sgp_core.tasks.images.classification import ImageClassification

_TRAIN_EXAMPLES = (142, 146, 142, 146, 145, 145, 145, 143, 139, 144)
"""Of each class; the other 360 examples validate."""
_WHITE = 16.0
"""Pixels are integers 0..16."""
_MEAN, _STD = 0.305, 0.376
"""Of all pixels, after division by ``_WHITE``."""


@DATASETS.register("digits")
@dataclass(frozen=True)
class Digits(ImageDataset):
    """1,797 scans of handwritten digits, 8x8 grey, 10 classes; 1,437 train, 360 validate (fixed, stratified).

    UCI Optical Recognition of Handwritten Digits (test part), as scikit-learn's ``load_digits``.
    """

    augment: bool = False
    """Train on random crops of the padded image, one pixel either way."""

    @property
    def shape(self) -> tuple[tuple[int, int, int], int]:
        """Of a scan."""
        return (1, 8, 8), 10

    def load(self) -> ImageClassification:
        """Read the data from the installed scikit-learn."""
        import torch

        from sgp_core.tasks.images.classification import ImageClassification
        from sgp_core.tasks.images.memory import ImagesInMemory
        from sgp_core.tasks.images.prepare import Preparation

        table = _table()
        images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8))
        labels = torch.from_numpy(table[:, -1].astype("int64"))
        preparation = Preparation([_MEAN], [_STD], white=_WHITE, shift=1 if self.augment else 0)
        parts = _split(table[:, -1])
        train, validation = (ImagesInMemory(images[rows], labels[rows], preparation) for rows in parts)
        return ImageClassification(train, validation, num_classes=10, example_shape=(1, 8, 8))


def _table() -> np.ndarray:
    """Return 64 pixels and the class of every example, uint8.

    The file is read where scikit-learn keeps it: importing scikit-learn takes a second, in every worker.
    """
    import numpy as np

    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or []:
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.exists():
            return np.loadtxt(file, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    return np.column_stack([pixels, targets]).astype(np.uint8)


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that train and those that validate: scikit-learn's stratified split with ``random_state=0``."""
    import numpy as np

    rng = np.random.RandomState(0)
    for _ in range(2):
        rng.permutation(2)  # what scikit-learn draws to break ties between the classes' shares
    train, validation = [], []
    for label, count in enumerate(_TRAIN_EXAMPLES):
        rows = np.flatnonzero(labels == label)
        rows = rows[rng.permutation(len(rows))]
        train.append(rows[:count])
        validation.append(rows[count:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(validation))

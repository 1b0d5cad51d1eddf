"""The base of the well-known data sets: found in a folder, or downloaded on request."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.cache import cache_root, digest_of, exclusive
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.images.datasets.base import ImageDataset

if TYPE_CHECKING:
    import numpy as np

    from sgp_core.tasks.images.classification import ImageClassification

Arrays = tuple["np.ndarray", "np.ndarray"]
"""uint8 images ``[N, C, H, W]`` and int64 targets ``[N]``."""


@dataclass(frozen=True)
class StandardDataset(ImageDataset):
    """A data set in the files torchvision uses, found in ``path`` or, on request, downloaded to it."""

    mean: ClassVar[Sequence[float]]
    std: ClassVar[Sequence[float]]
    num_classes: ClassVar[int]
    shift: ClassVar[int]
    """Pixels that augmentation shifts an image either way."""
    example: ClassVar[tuple[int, int, int]]
    """Channels, height and width of an image."""
    flip: ClassVar[bool]
    """Whether a mirror image is as good an example."""

    augment: bool = True
    """Train on randomly shifted (and, where that makes sense, mirrored) images."""
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder the data are in or go to; null: sgp/ in the user's cache folder."""
    download: bool = field(default=False, metadata=NOT_IDENTITY)
    """Get the data from the internet if they are not there."""

    @property
    def shape(self) -> tuple[tuple[int, int, int], int]:
        """The same for all of these images."""
        return self.example, self.num_classes

    @abstractmethod
    def find(self, root: Path) -> Path | None:
        """Return the folder below ``root`` (or known to the system) that holds every file, or None."""

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Download below ``root``."""

    @abstractmethod
    def read(self, folder: Path, train: bool) -> Arrays:
        """Read one split from what :meth:`find` returned."""

    @property
    def root(self) -> Path:
        """Where the data are looked for, and downloaded to."""
        return Path(self.path).expanduser().absolute() if self.path else cache_root()

    def check(self) -> None:
        """Refuse if the data are not there and may not be downloaded."""
        if not self.download and self.find(self.root) is None:
            name = DATASETS.name_of(type(self))
            where = f" dataset.path={self.path}" if self.path else ""
            raise ConfigurationError(
                f"{name} is not in {self.root}; to get it, run: sgp-train dataset={name} dataset.download=true{where}"
            )

    def load(self) -> ImageClassification:
        """Read both splits into memory, after downloading them if that is needed and allowed."""
        import torch

        from sgp_core.tasks.images.classification import ImageClassification
        from sgp_core.tasks.images.memory import ImagesInMemory
        from sgp_core.tasks.images.prepare import Preparation

        self.check()
        folder = self.find(self.root) or self._download()
        preparation = Preparation(
            self.mean, self.std, shift=self.shift if self.augment else 0, flip=self.flip and self.augment
        )
        splits = []
        for train in (True, False):
            images, targets = self.read(folder, train)
            if not len(targets) or targets.min() < 0 or targets.max() >= self.num_classes:
                raise ConfigurationError(f"{folder} is damaged: it holds no images or labels out of range")
            splits.append(ImagesInMemory(torch.from_numpy(images), torch.from_numpy(targets), preparation))
        channels, height, width = splits[0].images.shape[1:]

        def digest() -> str:
            return digest_of(part.numpy() for split in splits for part in (split.images, split.targets))

        return ImageClassification(splits[0], splits[1], self.num_classes, (channels, height, width), digest=digest)

    def _download(self) -> Path:
        """Return the folder after one process has filled it while the others waited."""
        name = DATASETS.name_of(type(self))
        try:
            with exclusive(self.root / f".{name}.lock"):
                if self.find(self.root) is None:
                    self.fetch(self.root)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(f"{name} could not be downloaded to {self.root}: {error}") from error
        folder = self.find(self.root)
        if folder is None:
            raise ConfigurationError(f"{name} is incomplete in {self.root}: delete it there and download it again")
        return folder

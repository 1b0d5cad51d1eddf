"""Any class-per-folder tree of images, or a tar archive of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.images.datasets.base import ImageDataset
from sgp_core.validation import at_least, one_of, require

if TYPE_CHECKING:
    from sgp_core.tasks.images.classification import ImageClassification
    from sgp_core.tasks.images.decoded import Decoded
    from sgp_core.tasks.images.prepare import Preparation
    from sgp_core.tasks.images.source import Source

_LAYOUT = "images-1"
"""Changes when what is kept in the cache changes, so that older files are not read."""


class Crop(StrEnum):
    """What training sees of an image when it is augmented (it is also mirrored at random)."""

    shifted = "shifted"
    """The whole image, shifted by up to an eighth of its size: for small images. Evaluation sees all of it."""
    resized = "resized"
    """A random part of the original file, resized: for photographs. Evaluation sees the middle."""


@DATASETS.register("image_folder")
@dataclass(frozen=True)
class ImageFolder(ImageDataset):
    """RGB images in ``path/[train|val|test/]CLASS/*``; ``path`` may be a .tar or .tar.gz, which is not unpacked.

    Validation is on ``val`` if there is one, else on ``test``, else on ``holdout`` of every class. Images are
    decoded once to ``image_size`` and kept in the cache folder, unless that takes more than ``in_memory_limit_gb``
    or ``crop`` is ``resized``: then they are decoded for each batch.
    """

    path: str | None = None
    """The folder or tar archive."""
    image_size: int = 32
    """Height and width of inputs; larger or oblong images are cut to the middle square and resized."""
    augment: bool = True
    """Train on crops and mirror images."""
    crop: Crop = Crop.shifted
    """How augmentation crops."""
    holdout: float = 0.1
    """Part of every class kept for validation if the tree has one split only."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    """Per channel, of pixels scaled to 0..1; the default is ImageNet's."""
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    """Per channel, of pixels scaled to 0..1; the default is ImageNet's."""
    in_memory_limit_gb: float = field(default=4.0, metadata=NOT_IDENTITY)
    """Decode per batch when all decoded images would take more than this."""
    cache: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Where decoded images are kept; null: sgp/ in the user's cache folder."""

    def __post_init__(self) -> None:
        one_of(Crop, "dataset.crop", self.crop)
        at_least(1, "dataset.image_size", self.image_size)
        require(0 < self.holdout < 1, "dataset.holdout", "between 0 and 1", self.holdout)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigurationError("dataset.mean and dataset.std need three numbers each, and std positive ones")

    def check(self) -> None:
        """Refuse a path that does not exist, cannot be read or holds no images; archives are not listed."""
        from sgp_core.tasks.images.source import open_source

        source = open_source(self._path())
        if source.is_empty():
            raise ConfigurationError(f"dataset.path={source.path} holds no images: expected CLASS/*.jpg in it")

    def load(self) -> ImageClassification:
        """Decode the images, or read them from the cache, or prepare to decode them per batch."""
        from sgp_core.tasks.cache import cache_root
        from sgp_core.tasks.content import say_changes
        from sgp_core.tasks.images.decoded import load_or_decode
        from sgp_core.tasks.images.prepare import Preparation
        from sgp_core.tasks.images.reading import printable
        from sgp_core.tasks.images.source import open_source

        shift = self.image_size // 8 if self.augment and self.crop == Crop.shifted else 0
        preparation = Preparation(self.mean, self.std, shift=shift, flip=self.augment)
        source = open_source(self._path())
        if self.crop == Crop.resized:
            return self._per_batch(source, preparation)
        content = f"{_LAYOUT} {source.fingerprint()} {self.image_size} {self.holdout}"
        root = (Path(self.cache).expanduser() if self.cache else cache_root()) / "images"
        entry = root / hashlib.sha256(content.encode()).hexdigest()[:24]
        decoded = load_or_decode(entry, lambda: self._decode(source))
        if decoded is None:
            return self._per_batch(source, preparation)
        say_changes(root, printable(source.path), decoded.content, self.image_size, self.holdout)
        return self._in_memory(decoded, preparation)

    def _path(self) -> Path:
        if not self.path:
            name = DATASETS.name_of(type(self))
            raise ConfigurationError(f"dataset={name} needs dataset.path=FOLDER or dataset.path=ARCHIVE.tar.gz")
        return Path(self.path).expanduser().absolute()

    def _decode(self, source: Source) -> Decoded | None:
        """Return all images, or None if that exceeds the limit."""
        from sgp_core.tasks.images.decoded import decode_tree
        from sgp_core.tasks.images.reading import printable
        from sgp_core.tasks.images.tree import arrange

        source.verify()
        tree = arrange(source.names(), printable(source.path), self.holdout)
        size = (len(tree.train) + len(tree.validation)) * 3 * self.image_size**2
        return None if size > self.in_memory_limit_gb * 1e9 else decode_tree(source, tree, self.image_size)

    def _in_memory(self, decoded: Decoded, preparation: Preparation) -> ImageClassification:
        import torch

        from sgp_core.tasks.images.classification import ImageClassification
        from sgp_core.tasks.images.memory import ImagesInMemory

        images, targets = torch.from_numpy(decoded.images), torch.from_numpy(decoded.targets)
        return ImageClassification(
            ImagesInMemory(images[: decoded.train], targets[: decoded.train], preparation),
            ImagesInMemory(images[decoded.train :], targets[decoded.train :], preparation),
            len(decoded.classes),
            (3, self.image_size, self.image_size),
            digest=lambda: decoded.digest,
        )

    def _per_batch(self, source: Source, preparation: Preparation) -> ImageClassification:
        import torch

        from sgp_core.tasks.images.archive import Archive
        from sgp_core.tasks.images.classification import ImageClassification
        from sgp_core.tasks.images.files import ImagesInFiles
        from sgp_core.tasks.images.reading import printable
        from sgp_core.tasks.images.tree import arrange

        if isinstance(source, Archive) and source.is_compressed:
            raise ConfigurationError(
                f"images cannot be decoded per batch from the compressed archive {source.path}: unpack it and give "
                "dataset.path=FOLDER, or raise dataset.in_memory_limit_gb"
            )
        tree = arrange(source.names(), printable(source.path), self.holdout)
        train, validation = (
            ImagesInFiles(
                source,
                [name for name, _ in files],
                torch.tensor([target for _, target in files]),
                preparation,
                self.image_size,
                random_parts=self.crop == Crop.resized,
            )
            for files in (tree.train, tree.validation)
        )
        return ImageClassification(
            train, validation, len(tree.classes), (3, self.image_size, self.image_size), True, source.content
        )

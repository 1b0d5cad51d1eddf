"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 70,000 pictures of clothes, 28x28 grey, 10 classes."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets.standard import Arrays, StandardDataset

if TYPE_CHECKING:
    import numpy as np

_FILES = {True: "train", False: "t10k"}
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""
_LARGEST = 2**30
"""Bytes of the largest file that is read: a small one may expand to any size."""


@DATASETS.register("fashion_mnist")
@dataclass(frozen=True)
class FashionMnist(StandardDataset):
    """60,000 train, 10,000 validate; IDX files, gzipped or not, in ``path``, torchvision's or Debian's folder."""

    mean: ClassVar = (0.2860,)
    std: ClassVar = (0.3530,)
    num_classes: ClassVar = 10
    shift: ClassVar = 2
    flip: ClassVar = True
    example: ClassVar = (1, 28, 28)

    def find(self, root: Path) -> Path | None:
        """Return the first of the known folders that holds all four files."""
        for folder in (root, root / "FashionMNIST" / "raw", root / "raw", _DEBIAN):
            if all(_file(folder, split, part) for split in _FILES.values() for part in ("images", "labels")):
                return folder
        return None

    def fetch(self, root: Path) -> None:
        """Download with torchvision."""
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(root), download=True)

    def read(self, folder: Path, train: bool) -> Arrays:
        """Read one split."""
        import numpy as np

        images_file, targets_file = (_file(folder, _FILES[train], part) for part in ("images", "labels"))
        assert images_file is not None
        assert targets_file is not None
        images, targets = read_idx(images_file), read_idx(targets_file)
        if images.ndim != 3 or targets.shape != images.shape[:1]:
            raise ConfigurationError(f"{images_file} and {targets_file.name} do not belong together")
        return images[:, None], targets.astype(np.int64)


def _file(folder: Path, split: str, part: str) -> Path | None:
    stem = f"{split}-{part}-idx{3 if part == 'images' else 1}-ubyte"
    return next((file for file in (folder / stem, folder / f"{stem}.gz") if file.is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes: magic ``0 0 8 ndim``, the sizes as big-endian uint32, then the data.

    Raises:
        ConfigurationError: the file is something else, or cut short.
    """
    import numpy as np

    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            data = file.read(_LARGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    header = 4 + 4 * data[3] if data[:3] == b"\x00\x00\x08" and len(data) > 3 else 0
    if not header or len(data) < header:
        raise ConfigurationError(f"{path} is not an IDX file of bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).astype(int).tolist()
    if len(data) - header != np.prod(shape):
        raise ConfigurationError(f"{path} is damaged: {len(data) - header} bytes where its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()

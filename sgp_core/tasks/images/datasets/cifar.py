"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 photographs, 32x32 RGB, in 10 or 100 classes."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets.standard import Arrays, StandardDataset
from sgp_core.tasks.images.reading import reason_of


@dataclass(frozen=True)
class _Cifar(StandardDataset):
    """50,000 train, 10,000 validate; the "python version" files, as torchvision unpacks them."""

    shift: ClassVar = 4
    flip: ClassVar = True
    example: ClassVar = (3, 32, 32)
    folder: ClassVar[str]
    train_files: ClassVar[Sequence[str]]
    test_files: ClassVar[Sequence[str]]
    label: ClassVar[str]

    def find(self, root: Path) -> Path | None:
        """Return ``root`` or the folder torchvision makes below it, whichever holds all files."""
        for folder in (root / self.folder, root):
            if all((folder / name).is_file() for name in (*self.train_files, *self.test_files)):
                return folder
        return None

    def read(self, folder: Path, train: bool) -> Arrays:
        """Read one split."""
        import numpy as np

        batches = [self._batch(folder / name) for name in (self.train_files if train else self.test_files)]
        return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])

    def _batch(self, file: Path) -> Arrays:
        import numpy as np

        try:
            content = _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
            entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
            images = np.asarray(entries["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            labels = np.asarray(entries[self.label], dtype=np.int64)
            if len(images) != len(labels):
                raise ValueError(f"{len(images)} images but {len(labels)} labels")
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise ConfigurationError(f"{file} is damaged or not a CIFAR batch: {reason_of(error)}") from error
        return images, labels


@DATASETS.register("cifar10")
@dataclass(frozen=True)
class Cifar10(_Cifar):
    """CIFAR-10: 10 classes of 5,000 + 1,000 photographs, 32x32 RGB."""

    mean: ClassVar = (0.4914, 0.4822, 0.4465)
    std: ClassVar = (0.2470, 0.2435, 0.2616)
    num_classes: ClassVar = 10
    folder: ClassVar = "cifar-10-batches-py"
    train_files: ClassVar = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_files: ClassVar = ("test_batch",)
    label: ClassVar = "labels"

    def fetch(self, root: Path) -> None:
        """Download with torchvision (170 MB)."""
        from torchvision.datasets import CIFAR10

        CIFAR10(str(root), download=True)


@DATASETS.register("cifar100")
@dataclass(frozen=True)
class Cifar100(_Cifar):
    """CIFAR-100: 100 classes of 500 + 100 photographs, 32x32 RGB."""

    mean: ClassVar = (0.5071, 0.4865, 0.4409)
    std: ClassVar = (0.2673, 0.2564, 0.2762)
    num_classes: ClassVar = 100
    folder: ClassVar = "cifar-100-python"
    train_files: ClassVar = ("train",)
    test_files: ClassVar = ("test",)
    label: ClassVar = "fine_labels"

    def fetch(self, root: Path) -> None:
        """Download with torchvision (169 MB)."""
        from torchvision.datasets import CIFAR100

        CIFAR100(str(root), download=True)


class _Unpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else: a pickle from elsewhere may not run code."""

    _ALLOWED: ClassVar = {
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may refer to."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

"""The news translation task of WMT 2016, from the Hugging Face hub; the transformer of the SGP paper learnt it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.translation.datasets.text import TextDataset

if TYPE_CHECKING:
    from sgp_core.tasks.translation.text import ParallelText

_HUB = "wmt/wmt16"
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@DATASETS.register("wmt16")
@dataclass(frozen=True)
class Wmt16(TextDataset):
    """4,548,885 pairs train, 2,169 validate, 2,999 test (German); read with the library ``datasets``."""

    languages: ClassVar = ("en", "cs", "de", "fi", "ro", "ru", "tr")

    vocabulary: int = 32000
    """Most tokens of the joint byte-pair encoding, learnt from the training split."""
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Where the hub's files are kept; null: where the library ``datasets`` keeps them."""
    download: bool = field(default=False, metadata=NOT_IDENTITY)
    """Get the data from the internet if they are not there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "en" not in (self.source, self.target):
            raise ConfigurationError(
                f"dataset.source={self.source} dataset.target={self.target}: one of them must be en"
            )

    def check(self) -> None:
        """Refuse if the library is not installed; what is in its cache only it can say."""
        if importlib.util.find_spec("datasets") is None:
            raise ConfigurationError(
                "dataset=wmt16 needs the library datasets; to get it, run: pip install 'stochastic-gradient-push[wmt]'"
            )

    def fingerprint(self) -> str:
        """Return the version of the data and the sizes of the splits."""
        splits = self._splits()
        return " ".join(f"{_HUB} {splits[name].info.version} {len(splits[name])}" for name in _SPLITS.values())

    def read(self) -> dict[str, ParallelText]:
        """Read every split."""
        from sgp_core.tasks.translation.text import ParallelText

        splits = self._splits()
        found = {}
        for split, name in _SPLITS.items():
            text = found[split] = ParallelText([], [])
            for row in splits[name]:
                text.sources.append(row["translation"][self.source])
                text.targets.append(row["translation"][self.target])
        return found

    def _splits(self) -> Any:
        """Return the library's splits by its names; one process downloads while the others wait."""
        self.check()
        if not self.download:
            os.environ["HF_HUB_OFFLINE"] = "1"  # the library reads it when it is imported, and listens to nothing else
        import datasets

        other = self.target if self.source == "en" else self.source
        try:
            return datasets.load_dataset(_HUB, f"{other}-en", cache_dir=self.path)
        except Exception as error:  # whatever the library, the network or the disk had to say
            if self.download:
                raise ConfigurationError(f"wmt16 could not be downloaded: {error}") from error
            where = f" dataset.path={self.path}" if self.path else ""
            raise ConfigurationError(
                f"wmt16 is not on this machine; to get it, run: sgp-train dataset=wmt16 dataset.download=true{where}"
            ) from error

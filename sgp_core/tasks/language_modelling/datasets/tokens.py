"""Text that others have encoded, in binary shards: FineWeb, for example."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY
from sgp_core.tasks.language_modelling.datasets.base import LanguageDataset

if TYPE_CHECKING:
    from sgp_core.tasks.language_modelling.task import LanguageModelling

_ENDINGS = (".bin",)


@DATASETS.register("tokens")
@dataclass(frozen=True)
class TokenShards(LanguageDataset):
    """Files ``.bin`` of 16 or 32 bits a token, with the header that llm.c writes. They are mapped, never copied.

    Of those in ``path``, files whose names hold ``val`` validate.
    """

    vocabulary: int = 50_257
    """Tokens that a model knows: those of the tokenizer, or more."""
    context: int = 1024
    """Tokens of a window: what a model sees at most."""
    path: str | None = None
    """A file, a folder or a pattern such as ``fineweb10B/*.bin``."""
    validation_path: str | None = None
    """The shards that validate, given like ``path``; null: those of ``path`` whose names hold ``val``."""
    tokenizer: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The file ``tokenizer.json`` of the tokenizer of these tokens: it says how many bytes each stands for."""

    def check(self) -> None:
        """Refuse paths without shards, and no tokenizer."""
        self._files()
        self._tokenizer()

    def load(self) -> LanguageModelling:
        """Map the shards."""
        from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
        from sgp_core.tasks.language_modelling.shards import ShardedText, ShardedTokens
        from sgp_core.tasks.language_modelling.streams import TRAIN
        from sgp_core.tasks.language_modelling.task import LanguageModelling

        bpe = ByteBpe.load_published(self._tokenizer())
        if bpe.size > self.vocabulary:
            raise ConfigurationError(
                f"dataset.vocabulary={self.vocabulary}: the tokenizer {self.tokenizer} has {bpe.size} tokens"
            )
        train, validation = (ShardedTokens(files, self.vocabulary) for files in self._files())
        return LanguageModelling(
            ShardedText(bpe, {TRAIN: train, VALIDATION: validation}, self.vocabulary), self.context
        )

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Return the shards that train, and those that validate."""
        from sgp_core.tasks.language_modelling.corpus import find_files

        if not self.path:
            raise ConfigurationError("dataset=tokens needs dataset.path=FOLDER with shards of tokens (.bin)")
        files = find_files(self.path, _ENDINGS)
        if self.validation_path:
            held = find_files(self.validation_path, _ENDINGS)
        else:
            held = [file for file in files if VALIDATION in file.name]
        train = [file for file in files if file not in held]
        if not train or not held:
            which = "validate" if train else "train"
            raise ConfigurationError(
                f"{self.path} has no shards to {which} on: those with 'val' in their names validate, or those of "
                "dataset.validation_path"
            )
        return train, held

    def _tokenizer(self) -> Path:
        if not self.tokenizer:
            raise ConfigurationError(
                "dataset=tokens needs dataset.tokenizer=tokenizer.json, the tokenizer of these tokens; for those of "
                "GPT-2 it is in https://huggingface.co/openai-community/gpt2"
            )
        return Path(self.tokenizer).expanduser().absolute()

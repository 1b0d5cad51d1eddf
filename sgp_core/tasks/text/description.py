"""What ``model.json`` says of an exported model of text, checked: the file may be damaged, or anybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_file
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.kinds import TASKS
from sgp_core.tasks.models import MODELS, Model


@dataclass(frozen=True)
class ModelDescription:
    """How to rebuild a model of text.

    Attributes:
        task: what the model is for.
        model: name and options of the model.
        vocabulary: number of tokens.
        tokenizer: name of a file beside the model.
        tokenizer_sha256: of that file; None if it is not recorded.
        context: most tokens of a sequence; None for tasks that have no such limit.
    """

    task: str
    model: Mapping[str, Any]
    vocabulary: int
    tokenizer: str
    tokenizer_sha256: str | None
    context: int | None

    def options(self) -> Model:
        """Return the options of the model, checked by itself.

        Raises:
            ConfigurationError, TypeError: there is no such model for this task, or an option is out of range.
        """
        given = dict(self.model)
        chosen = MODELS.build(str(given.pop("name", "")), **given)
        if chosen.task != self.task:
            raise ConfigurationError(f"{self.model} is not a model that {TASKS.get(self.task).does}")
        return chosen

    def fits(self, tensors: int, elements: int) -> bool:
        """Whether a file of so many tensors, with so many numbers in all, can hold this model.

        It is asked before the model is built, which takes time and memory without bound for hostile sizes.
        """
        sizes = {name: value for name, value in self.model.items() if isinstance(value, int)}
        layers = [value for name, value in sizes.items() if name.endswith("layers")]
        return max([self.vocabulary, *sizes.values()]) <= elements and max(layers, default=0) <= tensors


def read_description(path: Path, task: str, wanted: str) -> ModelDescription:
    """Return what the file beside the model at ``path`` says of it.

    Args:
        task: for which the model must be.
        wanted: what the model must be and what to name instead, as the end of a sentence.

    Raises:
        ConfigurationError: the file cannot be read or is damaged, or the model is for another task.
    """
    beside = path.with_suffix(".json")
    try:
        content = json.loads(read_file(beside))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {beside}: {error.strerror or error}; it says what model it is"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{beside} is damaged: it does not say what model it is") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{beside} is damaged: it does not say what model it is")
    if content.get("kind") != task:
        raise ConfigurationError(f"{path} is not {wanted}")
    model = _field(beside, content, "model", dict)
    vocabulary = _field(beside, content, "vocabulary", int)
    tokenizer = _field(beside, content, "tokenizer", str, "tokenizer.json")
    digest = _field(beside, content, "tokenizer_sha256", str, None)
    context = _field(beside, content, "context", int, None)
    for name, value in (("vocabulary", vocabulary), ("context", context)):
        if value is not None and not 0 < value < 2**31:
            raise ConfigurationError(f"{beside} is damaged: {name} cannot be {value}")
    if Path(tokenizer).name != tokenizer:
        raise ConfigurationError(f"{beside} is damaged: tokenizer must be the name of a file beside it")
    return ModelDescription(task, model, vocabulary, tokenizer, digest, context)


_REQUIRED = object()


def _field(path: Path, content: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = content.get(name, default)
    if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ConfigurationError(f"{path} is damaged: {name} must be {_WORDS[kind]}")
    if value is _REQUIRED:
        raise ConfigurationError(f"{path} is damaged: it has no {name}")
    return value


_WORDS = {dict: "an object", int: "a whole number", str: "a text"}

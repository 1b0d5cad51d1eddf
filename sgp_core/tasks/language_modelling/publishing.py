"""Writes an exported language model as a folder that the library ``transformers`` loads, without this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgp_core.atomic_files import write_json, write_text
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.generator import read_language_model
from sgp_core.tasks.language_modelling.models.base import LanguageModel
from sgp_core.tasks.text.exported import load_model, load_tokenizer
from sgp_core.tasks.text.tokenizer import TOKENIZER
from sgp_core.tensors.files import write_tensors

_CONFIG, _MODEL, _TOKENIZER_CONFIG = "config.json", "model.safetensors", "tokenizer_config.json"
_FILES = frozenset({_CONFIG, _MODEL, TOKENIZER, _TOKENIZER_CONFIG, "generation_config.json"})


def write_transformers_folder(path: Path, folder: Path) -> None:
    """Write the model at ``path`` and its tokenizer to ``folder``, which is made.

    ``AutoModelForCausalLM.from_pretrained(folder)`` and ``AutoTokenizer.from_pretrained(folder)`` load it. The
    configuration is written last: without it, nothing loads.

    Args:
        path: ``.safetensors``, with ``model.json`` and the tokenizer beside it.

    Raises:
        ConfigurationError: ``path`` is no language model or damaged, its shape is none of ``transformers``, or
            ``folder`` holds something else.
    """
    _check_folder(folder)
    description = read_language_model(path)
    bpe, context = load_tokenizer(path, description, ByteBpe), description.context
    assert context is not None, "checked by read_language_model"
    model = load_model(path, description, lambda chosen: chosen.build(description.vocabulary, context))
    chosen = description.options()
    assert isinstance(chosen, LanguageModel), "its task says so"
    published = chosen.publish(model.state_dict(), context)
    names: dict[str, Any] = {}
    tokens: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
    if bpe.begin is not None:
        token, name = bpe.begin
        names = {"bos_token": name, "eos_token": name}
        tokens = {"bos_token_id": token, "eos_token_id": token}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).unlink(missing_ok=True)
        write_tensors(folder / _MODEL, published.weights)
        write_text(folder / TOKENIZER, bpe.content)
        write_json(
            folder / _TOKENIZER_CONFIG,
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": context,
                "clean_up_tokenization_spaces": False,
                **names,
            },
        )
        dtype = str(next(iter(published.weights.values())).dtype).removeprefix("torch.")
        write_json(folder / _CONFIG, {**published.options, **tokens, "torch_dtype": dtype, "use_cache": True})
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror or error}") from error


def _check_folder(folder: Path) -> None:
    try:
        others = sorted(file.name for file in folder.iterdir() if file.name not in _FILES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{folder} must be a folder: {error.strerror or error}") from error
    if others:
        raise ConfigurationError(f"{folder} holds something else, such as {others[0]}; name a new or empty folder")

"""Starting from weights: a model takes the parameters and buffers of a file, or says what does not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.tasks.models import Model

_NESTED = ("state_dict", "model")
"""Keys under which training scripts keep the state dict in a checkpoint of theirs."""
_DDP = "module."
_MOST_NAMED = 3


def load_weights(model: nn.Module, chosen: Model) -> None:
    """Copy the weights that ``chosen.weights`` names into ``model``; nothing if it names none.

    Raises:
        ConfigurationError: the file cannot be read, has changed, or is of another model.
    """
    if chosen.weights is None:
        return
    path = Path(chosen.weights)
    saved = _read(path, chosen.weights_sha256)
    own = model.state_dict()
    for prefix in chosen.weights_except:
        if not any(name.startswith(prefix) for name in (*own, *saved)):
            known = {name.rpartition(".")[0] or name for name in own}
            raise ConfigurationError(
                f"model.weights_except: no parameter begins with {prefix}{did_you_mean(prefix, known)}"
            )
    anew = tuple(chosen.weights_except)
    taken = [name for name in own if not name.startswith(anew)] if anew else list(own)
    offered = {name: tensor for name, tensor in saved.items() if not anew or not name.startswith(anew)}
    _check_names(path, taken, offered)
    _check_shapes(path, own, offered)
    model.load_state_dict({**own, **offered})


def _read(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Return the state dict of a file, without the names that DDP puts in front."""
    try:
        with open(path, "rb") as file:
            if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ConfigurationError(f"model.weights={path}: the file is not the one of checksum {sha256[:10]}")
            file.seek(0)
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                content: Any = load_file(path)
            else:
                content = torch.load(file, map_location="cpu", weights_only=True)
    except ConfigurationError:
        raise
    except Exception as error:  # what readers raise at a file of something else is of many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(f"model.weights={path} cannot be read: {reason}") from error
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ConfigurationError(f"model.weights={path} holds no state dict: names with a tensor each")
    if content and all(name.startswith(_DDP) for name in content):
        return {name.removeprefix(_DDP): tensor for name, tensor in content.items()}
    return dict(content)


def _check_names(path: Path, wanted: Collection[str], offered: Collection[str]) -> None:
    missing = [name for name in wanted if name not in offered]
    extra = [name for name in offered if name not in wanted]
    if missing or extra:
        parts = [f"it lacks {_some(missing)}"] if missing else []
        parts += [f"this model has no {_some(extra)}"] if extra else []
        raise ConfigurationError(
            f"model.weights={path} is of another model: {', and '.join(parts)}; choose that model, or name in "
            "model.weights_except what is to start anew"
        )


def _check_shapes(path: Path, own: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in offered.items() if tensor.shape != own[name].shape]
    if not wrong:
        return
    name = wrong[0]
    layers = list(dict.fromkeys(each.rpartition(".")[0] or each for each in wrong))
    shapes = f"{name} has shape {list(offered[name].shape)} there and {list(own[name].shape)} here"
    if len(layers) == 1:
        anew = f"a layer for another number of classes starts anew with model.weights_except=[{layers[0]}]"
    else:
        anew = f"{len(wrong)} parameters differ: choose the model with the options that it was saved with"
    raise ConfigurationError(f"model.weights={path}: {shapes}; {anew}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"

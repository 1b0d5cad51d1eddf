"""Reads the split and the class of image files from their paths. Imports without torch."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.reading import printable

_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "test", "testing")
"""The first of these that exists is used."""
_EXPECTED = "expected [train|val|test/]CLASS/*.jpg (or .png, ...)"

Files = list[tuple[tuple[str, ...], str]]
"""Per image: the folders and the file below the split, and the full name."""


@dataclass(frozen=True)
class Tree:
    """Classes in alphabetical order; per split, names of files with the number of their class."""

    classes: list[str]
    train: list[tuple[str, int]]
    validation: list[tuple[str, int]]


def arrange(names: Sequence[str], where: str, holdout: float) -> Tree:
    """Read ``[TOP/...][SPLIT/]CLASS/...FILE`` off file names.

    Args:
        names: paths with forward slashes.
        where: what to call the whole in an error.
        holdout: where only one split exists, the part of every class that is kept for validation; the same files
            every time.

    Raises:
        ConfigurationError: no images, no classes, or classes of the splits that do not match.
    """
    if not names:
        raise ConfigurationError(f"{where} holds no images: {_EXPECTED}")
    splits = _splits([(tuple(name.split("/")), name) for name in sorted(names)])
    if any(len(parts) < 2 for files in splits.values() for parts, _ in files):
        raise ConfigurationError(f"{where} has images outside class folders: {_EXPECTED}")
    train = next((splits[name] for name in _TRAIN if name in splits), None)
    validation = next((splits[name] for name in _VALIDATION if name in splits), None)
    only = train or validation or []
    classes = sorted({parts[0] for parts, _ in only})
    if len(classes) < 2:
        raise ConfigurationError(
            f"{where} has only the class folder '{printable(classes[0])}': {_EXPECTED}, two classes or more"
        )
    number = {name: index for index, name in enumerate(classes)}
    if train is None or validation is None:
        return Tree(classes, *_hold_out([(name, number[parts[0]]) for parts, name in only], holdout, where))
    for parts, _ in validation:
        if parts[0] not in number:
            raise ConfigurationError(
                f"{where} has the class '{printable(parts[0])}' for validation but not for training"
            )
    return Tree(
        classes,
        [(name, number[parts[0]]) for parts, name in train],
        [(name, number[parts[0]]) for parts, name in validation],
    )


def _splits(files: Files) -> dict[str, Files]:
    """Return the files of each split by its lower-case name; all under "train" if there are no split folders."""
    known = {*_TRAIN, *_VALIDATION}
    while len(tops := {parts[0] for parts, _ in files}) == 1 and not {top.lower() for top in tops} & known:
        if any(len(parts) < 3 for parts, _ in files):
            break
        files = [(parts[1:], name) for parts, name in files]
    splits: dict[str, Files] = defaultdict(list)
    for parts, name in files:
        splits[parts[0].lower()].append((parts[1:], name))
    # "train" may be a class (of vehicles) beside others: then it holds images, not folders
    nested = [name for name in known & splits.keys() if all(len(parts) > 1 for parts, _ in splits[name])]
    if nested or splits.keys() <= known:
        return {name: splits[name] for name in known & splits.keys()}
    return {"train": files}


def _hold_out(
    files: list[tuple[str, int]], holdout: float, where: str
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return (kept, held out): ``holdout`` of every class, rounded, picked with a fixed seed."""
    per_class: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for file in files:
        per_class[file[1]].append(file)
    kept: list[tuple[str, int]] = []
    held_out: list[tuple[str, int]] = []
    for number, members in sorted(per_class.items()):
        order = random.Random(number).sample(members, len(members))
        count = round(holdout * len(members))
        held_out += sorted(order[:count])
        kept += sorted(order[count:])
    if not kept or not held_out:
        raise ConfigurationError(
            f"{where} has one split of {len(files)} images, and dataset.holdout={holdout} of it leaves none "
            f"to {'train' if not kept else 'validate'} on"
        )
    return kept, held_out

"""All images of a tree decoded once, kept in the user's cache, and shared by every process that maps the file."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sgp_core.tasks import cache
from sgp_core.tasks.images.decode import decode
from sgp_core.tasks.images.source import Source
from sgp_core.tasks.images.tree import Tree

_LOGGER = logging.getLogger(__name__)
_CHUNK = 256
"""Images a thread decodes at a time."""
_SMALL = 64
"""Images up to this size decode too quickly for more threads to help: they would contend for the interpreter."""


@dataclass(frozen=True)
class Decoded:
    """Images of both splits, training first."""

    images: np.ndarray
    """uint8 ``[N, 3, size, size]``; possibly a memory-mapped file, never to be written to."""
    targets: np.ndarray
    """int64 ``[N]``."""
    train: int
    """How many of them are for training."""
    classes: list[str]

    @cached_property
    def digest(self) -> str:
        """A hash of all this, by which damage to what is kept, and other images, are noticed."""
        return cache.digest_of((self.images, self.targets), self.train, self.classes)

    @property
    def content(self) -> dict[str, Any]:
        """The numbers of images and the hash: see :meth:`sgp_core.tasks.base.Task.content`."""
        validation = len(self.images) - self.train
        return {"training examples": self.train, "validation examples": validation, "content": self.digest}


def decode_tree(source: Source, tree: Tree, size: int) -> Decoded:
    """Decode every image of ``tree``, cut to ``size`` by ``size`` pixels, with a few threads.

    Raises:
        ConfigurationError: a file cannot be read or is no image.
    """
    files = [*tree.train, *tree.validation]
    rows = {name: row for row, (name, _) in enumerate(files)}
    images = np.empty((len(files), 3, size, size), dtype=np.uint8)
    _LOGGER.info("decoding %d images of %s", len(files), source.path)

    def work(chunk: list[tuple[str, bytes]]) -> None:
        for name, data in chunk:
            images[rows[name]] = decode(data, size, source.where(name))

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores if size > _SMALL else 1
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[None]] = deque()
        chunk: list[tuple[str, bytes]] = []
        for item in source.stream(list(rows)):
            chunk.append(item)
            if len(chunk) == _CHUNK:
                running.append(pool.submit(work, chunk))
                chunk = []
                if len(running) > 2 * threads:  # bounds the memory of files that are read but not yet decoded
                    running.popleft().result()
        work(chunk)
        for future in running:
            future.result()
    targets = np.array([target for _, target in files], dtype=np.int64)
    return Decoded(images, targets, len(tree.train), tree.classes)


def load_or_decode(entry: Path, make: Callable[[], Decoded | None]) -> Decoded | None:
    """Return the images in the folder ``entry``; the first process decodes them while the others wait.

    Where the folder cannot be written, every process decodes its own. ``make`` returns None if nothing is to be kept.
    """
    return cache.load_or_make(entry, _read, make, _fill, what="decoded images")


def _fill(folder: Path, decoded: Decoded) -> None:
    np.save(folder / "images.npy", decoded.images)
    np.save(folder / "targets.npy", decoded.targets)
    about = {"train": decoded.train, "classes": decoded.classes, "digest": decoded.digest}
    (folder / "about.json").write_text(json.dumps(about))


def _read(entry: Path) -> Decoded | None:
    """Return the images of ``entry`` as a memory-mapped file, or None if they are not exactly what was written."""
    try:
        about = json.loads((entry / "about.json").read_text())
        targets = np.load(entry / "targets.npy")
        # mode "c": pages are shared between processes, and torch gets the writable array it insists on
        images = np.load(entry / "images.npy", mmap_mode="c")
        decoded = Decoded(images, targets, about["train"], about["classes"])
        whole = len(images) == len(targets) and decoded.digest == about["digest"]
    except Exception:  # damaged files raise nearly anything, and are made anew
        return None
    return decoded if whole else None

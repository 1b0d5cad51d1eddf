"""Damage to what is kept in the cache is noticed: images and text are made anew, and are those of the data again."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sgp_core.tasks.datasets import DATASETS
from tests.fuzz.mutate import cases, mutate
from tests.fuzz.refusals import result_of
from tests.support.parallel import write_text


def write_images(folder: Path) -> None:
    """Write a tree of 16 small images."""
    for number in range(16):
        pixels = np.random.default_rng(number).integers(256, size=(8, 8, 3)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        path = folder / ("train", "val")[number % 2] / ("cat", "dog")[number // 2 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())


def bits(task: Any) -> list[torch.Tensor]:
    """Return all that a task of eight examples trains and validates on."""
    batches = [task.batch(torch.arange(8)), task.validation_batch(torch.arange(8))]
    return [tensor for batch in batches for tensor in (*batch.inputs, batch.targets)]


def test_damaged_caches(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    (tmp_path / "text").mkdir()
    write_text(tmp_path / "text", train=8, val=8)
    choices = [
        DATASETS.build("image_folder", path=str(tmp_path / "images"), image_size=8, cache=str(tmp_path / "cache-0")),
        DATASETS.build("parallel_text", path=str(tmp_path / "text"), cache=str(tmp_path / "cache-1")),
    ]
    wholes = [bits(choice.load()) for choice in choices]
    files = [sorted(path for path in (tmp_path / f"cache-{i}").rglob("*/*/*") if path.is_file()) for i in (0, 1)]
    counts: Counter[str] = Counter()
    for seed in cases(40):
        which = seed % 2
        path = files[which][seed // 2 % len(files[which])]
        content, before = path.read_bytes(), path.stat().st_ino
        path.write_bytes(mutate(content, seed))
        task = result_of(partial(choices[which].load), (path.name, seed))
        assert task is not None, ("what is kept must not end a run", path.name, seed)
        for tensor, whole in zip(bits(task), wholes[which], strict=True):
            assert torch.equal(tensor, whole), (path.name, seed)
        remade = path.stat().st_ino != before or path.read_bytes() == content
        counts[f"{('images', 'text')[which]}: {'made anew' if remade else 'the same'}"] += 1
        path.write_bytes(content)
    print(dict(sorted(counts.items())))
    for i in (0, 1):
        shutil.rmtree(tmp_path / f"cache-{i}")
    assert any("made anew" in outcome for outcome in counts)

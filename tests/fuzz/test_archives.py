"""A damaged archive or folder of images is refused, or trains on as many images as before and says what differs."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.classification import ImageClassification
from tests.fuzz.mutate import cases, mutate
from tests.fuzz.refusals import result_of

KINDS = ("", "gz", "bz2", "xz")
COUNT = 6
"""Images of each class and split."""


def image(seed: int) -> tuple[str, bytes]:
    """Return a small image and the ending of its name; every second one is a JPEG."""
    pixels = np.random.default_rng(seed).integers(256, size=(4, 4, 3)).astype(np.uint8)
    file, kind = io.BytesIO(), ("png", "jpeg")[seed % 2]
    Image.fromarray(pixels).resize((24, 24)).save(file, kind)
    return kind, file.getvalue()


def archive(kind: str) -> bytes:
    """Return a tar of a few images."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for seed, (split, label, number) in enumerate(
            (split, label, number) for split in ("train", "val") for label in ("cat", "dog") for number in range(COUNT)
        ):
            ending, content = image(seed)
            member = tarfile.TarInfo(f"{split}/{label}/{number}.{ending}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {kind: archive(kind) for kind in KINDS}


def load(path: Path, cache: Path) -> ImageClassification:
    task: ImageClassification = DATASETS.build(
        "image_folder", path=str(path), image_size=24, cache=str(cache), holdout=0.25
    ).load()
    return task


def test_damaged_archives(tmp_path: Path, archives: dict[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    counts: Counter[str] = Counter()
    cache = tmp_path / "cache"
    for kind, content in archives.items():
        (tmp_path / f"{kind}.tar").write_bytes(content)
    wholes = {kind: load(tmp_path / f"{kind}.tar", cache) for kind in KINDS}
    records = {path: path.read_bytes() for path in cache.rglob("*.json") if path.parent.name == "images"}
    for seed in cases(100):
        kind = KINDS[seed % len(KINDS)]
        path = tmp_path / f"{kind}.tar"
        path.write_bytes(mutate(archives[kind], seed))
        caplog.clear()
        task = result_of(partial(load, path, cache), (kind, seed))
        if task is None:
            counts[f"{kind or 'tar'}: refused"] += 1
            continue
        same = task.content() == wholes[kind].content()
        said = "is not what it was" in caplog.text
        assert same != said, (kind, seed)
        assert same or not kind, ("checksums let this through", kind, seed)
        counts[f"{kind or 'tar'}: {'the same' if same else 'other content, said'}"] += 1
        for record, content in records.items():
            record.write_bytes(content)
    print(dict(sorted(counts.items())))
    assert any("refused" in outcome for outcome in counts)

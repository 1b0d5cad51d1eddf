"""A damaged corpus is refused, or trains on as much text as before and says that it is other text."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.translation.task import Translation
from tests.fuzz.mutate import cases, mutate
from tests.fuzz.refusals import result_of
from tests.support.parallel import write_text


def load(folder: Path, cache: Path) -> Translation:
    task: Translation = DATASETS.build("parallel_text", path=str(folder), cache=str(cache), vocabulary=60).load()
    return task


def test_damaged_corpora(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "text"
    folder.mkdir()
    write_text(folder, packed=("train", "test"), train=40, val=12, test=8)
    whole = load(folder, cache).content()
    [record] = cache.glob("text/*.json")
    kept = record.read_bytes()
    files = sorted(folder.iterdir())
    counts: Counter[str] = Counter()
    for seed in cases(80):
        path = files[seed % len(files)]
        content = path.read_bytes()
        path.write_bytes(mutate(content, seed))
        caplog.clear()
        task = result_of(partial(load, folder, cache), (path.name, seed))
        path.write_bytes(content)
        if task is None:
            counts[f"{path.suffix}: refused"] += 1
            continue
        same, said = task.content() == whole, "is not what it was" in caplog.text
        assert same != said, (path.name, seed)
        assert same or path.suffix != ".gz", ("checksums let this through", path.name, seed)
        counts[f"{path.suffix}: {'the same' if same else 'other text, said'}"] += 1
        record.write_bytes(kept)
    print(dict(sorted(counts.items())))
    assert any("refused" in outcome for outcome in counts)

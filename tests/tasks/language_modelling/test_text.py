"""Documents, their tokens and windows: nothing is lost, nothing is in both splits, every byte counts once."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.language_modelling import streams
from sgp_core.tasks.language_modelling.byte_bpe import END, ByteBpe
from sgp_core.tasks.language_modelling.corpus import Document, find_files, hold_out
from sgp_core.tasks.language_modelling.datasets import debian_docs
from sgp_core.tasks.language_modelling.windows import IGNORED

BPE = ByteBpe.train(["the cat sat on the mat, and the dog sat by it\n"] * 3, 280)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_to_the_byte(text: str) -> None:
    [tokens] = BPE.encode([text])
    assert BPE.decode([tokens]) == [text]
    assert END not in tokens
    assert BPE.token_bytes()[tokens].sum() == len(text.encode())


def test_names_of_special_tokens_are_text() -> None:
    [tokens] = BPE.encode(["<|endoftext|>"])
    assert END not in tokens
    assert BPE.token_bytes()[END] == 0
    assert 257 < BPE.size <= 280


def write(folder: Path, documents: dict[str, str]) -> None:
    for name, text in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def story(number: int) -> str:
    """Return a text of its own for each number."""
    return "".join(f"In year {number} of the city, {place} houses fell. " for place in range(5 + number % 7))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 30 documents in two others."""
    texts = tmp_path / "texts"
    write(texts, {f"a/{number}.txt": story(number) for number in range(20)})
    write(texts, {f"b/deep/{number}.md.gz": story(number) for number in range(20, 30)})
    write(texts, {"a/image.png": "no text", "a/notes.tar.gz": "no text"})
    return texts


def data(folder: Path, **options: Any) -> Any:
    return DATASETS.build(
        "text",
        **{"path": str(folder), "vocabulary": 300, "context": 16, "cache": str(folder.parent / "cache"), **options},
    )


def test_files_are_found_in_folders_by_patterns_and_by_name(folder: Path) -> None:
    assert len(find_files(str(folder))) == 30
    assert len(find_files(f"{folder}/**/*.gz")) == 10
    assert len(find_files(f"{folder}/[ab]")) == 30
    assert find_files(f"{folder}/a/image.png") == [folder / "a/image.png"]  # whoever names a file means it
    with pytest.raises(ConfigurationError, match=r"nothing is no file and holds none that ends in \.txt, \.rst"):
        find_files(f"{folder}/nothing")


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text(min_size=1, max_size=30), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_whole_documents_are_held_out(texts: set[str], share: float) -> None:
    documents = [Document(text, 0) for text in sorted(texts)]
    train, validation = hold_out(documents, share)
    assert train
    assert validation
    assert not {each.text for each in train} & texts.difference(each.text for each in train)
    assert sorted(each.text for each in [*train, *validation]) == sorted(texts)
    if len(train) > 1:  # else what is wanted may be more than can be held out
        assert sum(len(each.text) for each in validation) >= share * sum(map(len, texts)) - 1e-9
    again = hold_out(documents[::-1], share)
    assert {each.text for each in again[1]} == {each.text for each in validation}


def test_every_token_is_predicted_once(folder: Path) -> None:
    task = data(folder).load()
    for split, windows in (
        ("train", [task.batch(torch.arange(len(task.labels)))]),
        ("val", [task.validation_batch(rows) for rank in range(3) for rows in task.validation_indices(rank, 3, 4)]),
    ):
        stream = np.asarray(task.text.splits[split].tokens).astype(int)
        targets = np.concatenate([batch.targets.flatten().numpy() for batch in windows])
        assert sum(batch.count for batch in windows) == (targets != IGNORED).sum()
        if split == "train":
            assert targets.tolist() == stream[1 : 1 + len(targets)].tolist()
            assert len(stream) - len(targets) <= 16
        else:
            assert sorted(targets[targets != IGNORED].tolist()) == sorted(stream[1:].tolist())
        for batch in windows:
            [inputs] = batch.inputs
            assert inputs.dtype == batch.targets.dtype == torch.int64
            shifted = batch.targets[:, :-1]
            assert torch.equal(inputs[:, 1:][shifted != IGNORED], shifted[shifted != IGNORED])
        [text] = task.text.bpe.decode([stream.tolist()])
        assert sum(story(number) in text for number in range(30)) == len(task.text.splits[split].starts)


def test_bits_per_byte_of_a_uniform_guess(folder: Path) -> None:
    """``log2 V`` bits a token, whatever the batches are; bytes are those of the files."""
    task = data(folder).load()
    size = task.text.bpe.size
    sums = torch.zeros(3, dtype=torch.float64)
    for rows in task.validation_indices(0, 1, 5):
        batch = task.validation_batch(rows)
        sums += task.statistics(torch.zeros(*batch.targets.shape, size), batch.targets)
    stream = task.text.splits["val"]
    [text] = task.text.bpe.decode([stream.tokens.tolist()])
    scores = task.scores(sums.tolist())
    assert scores["loss"] == pytest.approx(math.log(size))
    assert scores["perplexity"] == pytest.approx(size)
    assert scores["bits_per_byte"] == pytest.approx((len(stream) - 1) * math.log2(size) / len(text.encode()))


def test_text_is_encoded_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    work = streams.encode_documents
    monkeypatch.setattr(streams, "encode_documents", lambda *given: calls.append(given) or work(*given))
    first, again = data(folder).load(), data(folder).load()
    assert len(calls) == 1
    assert isinstance(again.text.splits["train"].tokens, np.memmap)
    assert again.text.splits["train"].tokens.dtype == np.uint16
    assert again.state() == first.state() == {"tokenizer": first.text.bpe.digest}
    data(folder, context=8).load()  # windows are cut when they are needed
    assert len(calls) == 1
    data(folder, validation_share=0.5).load()
    write(folder, {"a/new.rst": "A new text about the sea and the wind. " * 9})
    assert data(folder).load().content() != first.content()
    assert len(calls) == 3
    for file in (folder.parent / "cache").rglob("train.tokens.npy"):  # damage is noticed and repaired
        file.write_bytes(file.read_bytes()[:-4])
    data(folder).load()
    assert len(calls) == 4


def test_workers_can_have_a_source_each(folder: Path) -> None:
    task = data(folder).load()
    labels = task.labels
    train = task.text.splits["train"]
    assert set(labels.tolist()) == {0, 1}
    assert int((labels == 0).sum()) == pytest.approx(train.starts[list(train.sources).index(1)] / 16, abs=1)


def test_what_validates_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, {"train.txt": "one line\nanother line\nheld out\n", "val.txt": "held out\nalso this\n"})
    chosen = data(tmp_path / "train.txt", documents="line", validation_path=str(tmp_path / "val.txt"))
    train, validation = chosen.read()
    assert [each.text for each in train] == ["one line", "another line"]
    assert [each.text for each in validation] == ["held out", "also this"]


def test_without_a_path_it_is_the_verses_that_ship(tmp_path: Path) -> None:
    chosen = DATASETS.build("text", cache=str(tmp_path))
    chosen.check()
    train, validation = chosen.read()
    assert (len(train), len(validation)) == (1811, 180)
    assert not {each.text for each in train} & {each.text for each in validation}


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ({"one.txt": "only one"}, {}, "the text is 1 document, and validation needs one of its own; use dataset.docum"),
        ({"one.txt": "a\0b", "two.txt": "c"}, {}, "one.txt has bytes that are zero: the file is damaged"),
        ({"one.txt": "a", "two.txt": "b"}, {}, "the text that trains has 3 tokens, and a window needs one more than"),
        ({"one.txt": "a" * 20_000, "two.txt": "c"}, {}, "one.txt has a word of more than 10000 characters"),
        ({"one.txt": "a"}, {"validation_path": "/nowhere"}, "/nowhere is no file and holds none that ends"),
    ],
)
def test_unfit_text_is_refused(tmp_path: Path, documents: dict[str, str], options: Any, message: str) -> None:
    write(tmp_path / "texts", documents)
    with pytest.raises(ConfigurationError, match=message) as error:
        data(tmp_path / "texts", **options).load()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("text", {"vocabulary": 256}, "dataset.vocabulary must be at least 257, not 256"),
        ("text", {"context": 1}, "dataset.context must be at least 2"),
        ("text", {"validation_share": 0.0}, "dataset.validation_share must be between 0 and 1"),
        ("text", {"documents": "page", "path": "."}, "dataset.documents cannot be 'page'"),
        ("text", {"validation_path": "val.txt"}, "dataset.validation_path without dataset.path"),
        (
            "python_docs",
            {"path": "/nowhere"},
            "python_docs is not in /nowhere; to get it, run: apt-get install python3",
        ),
        (
            "linux_docs",
            {"path": "/nowhere"},
            "linux_docs is not in /nowhere; to get it, run: apt-get install linux-doc",
        ),
    ],
)
def test_impossible_wishes_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DATASETS.build(name, **options).check()


def test_documentation_is_read_where_packages_install_it(folder: Path) -> None:
    write(folder, {f"translations/it/{number}.rst.txt": story(50 + number) for number in range(3)})
    kernel, python = (DATASETS.build(name, path=str(folder)) for name in ("linux_docs", "python_docs"))
    assert [sum(map(len, each.read())) for each in (kernel, python)] == [30, 33]
    assert kernel.fingerprint() != python.fingerprint()
    assert "translations" in str(find_files(str(folder)))


def test_options_that_mean_nothing_for_text_are_refused() -> None:
    DATASETS.build("text").check_training({"batch_size": 3, "channels_last": False})
    with pytest.raises(ConfigurationError, match=r"training.channels_last=true: text has no channels"):
        DATASETS.build("text").check_training({"channels_last": True})


def test_documentation_that_the_system_leaves_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As slim images of Debian do: dpkg lists the files of the package, and there are none."""
    monkeypatch.setattr(debian_docs, "DPKG_LISTS", tmp_path)
    monkeypatch.setattr(debian_docs.PythonDocs, "places", f"{tmp_path}/nowhere/*"[1:])
    python = DATASETS.build("python_docs")
    with pytest.raises(ConfigurationError, match="to get it, run: apt-get install python3-doc "):
        python.check()
    (tmp_path / "python3-doc.list").touch()
    (tmp_path / "python3.11-doc.list").touch()
    without = r"its package python3.11-doc is installed without its files, since this system leaves out documentation;"
    with pytest.raises(ConfigurationError, match=without) as error:
        python.check()
    assert str(error.value).endswith("apt-get install --reinstall python3.11-doc")

"""``sgp translate``: a line out for each line in, as the exported model translates it, and mistakes in one sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.beam import translate
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.scoring import bleu
from sgp_core.tasks.translation.tokens import EOS
from tests.support.run_folders import make_run
from tests.support.sgp_command import Said
from tests.support.translations import MODEL, make_model

RUN = "7a00000001"
IMAGES = "7a00000002"
UNFINISHED = "7a00000003"
LINES = ["Two dogs run.", "", "A man sleeps on a green sofa.", "   ", "A café", "dogs"]
WORDS = ["Two dogs run.", "A man sleeps on a green sofa.", "Zwei Hunde rennen.", "Ein Mann schläft auf einem Sofa."]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a run that translates, of one that classifies images, and of one that has not finished."""
    runs = tmp_path_factory.mktemp("translations") / "runs"
    make_model(make_run(runs, RUN, model=MODEL, dataset={"name": "parallel_text"}), WORDS)
    images = make_run(runs, IMAGES)
    (images / "model.safetensors").write_bytes(b"")
    (images / "model.json").write_text(json.dumps({"model": {"name": "mlp"}, "dataset": "digits"}))
    make_run(runs, UNFINISHED, status="failed", model=MODEL, dataset={"name": "parallel_text"})
    return runs


@pytest.fixture
def ask(sgp: Callable[..., Said], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Call ``sgp translate`` with something on standard input."""
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(runs)

    def call(content: list[str] | bytes, *arguments: str | Path) -> Said:
        text = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        return sgp("translate", *arguments)

    return call


def expected(runs: Path, lines: list[str], **options: Any) -> list[str]:
    """Return what the parts of the library say."""
    folder = runs / RUN
    bpe = Bpe.load(folder / "tokenizer.json")
    options_ = {name: value for name, value in MODEL.items() if name != "name"}
    model = MODELS.build("transformer", **options_).build(bpe.size)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return bpe.decode(translate(model, [[*ids, EOS] for ids in bpe.encode(lines)], **options))


def test_a_line_out_for_each_line_in(ask: Callable[..., Said], runs: Path) -> None:
    said = ask(LINES, RUN)
    assert (said.code, said.err) == (0, "")
    lines = said.out.removesuffix("\n").split("\n")
    full = [index for index, line in enumerate(LINES) if line.strip()]
    assert [lines[index] for index in full] == expected(runs, [LINES[index] for index in full])
    assert [line for index, line in enumerate(lines) if index not in full] == ["", ""]
    assert len(set(lines)) > 3


@pytest.mark.parametrize("options", [["--beam", "1"], ["--length-penalty", "0"], ["--batch", "2"], ["--batch", "1"]])
def test_options_reach_the_search(options: list[str], ask: Callable[..., Said], runs: Path) -> None:
    names = {"--beam": ("beam", int), "--length-penalty": ("length_penalty", float), "--batch": ("batch", int)}
    name, kind = names[options[0]]
    lines = [line for line in LINES if line.strip()]
    assert ask(lines, RUN, *options).out.splitlines() == expected(runs, lines, **{name: kind(options[1])})


def test_more_lines_than_are_read_at_once_stay_in_order(ask: Callable[..., Said]) -> None:
    lines = [f"{'dogs run ' * (number % 3)}{number}" for number in range(40)]
    apart = [ask([line], RUN, "--beam", "2").out for line in lines[14:20]]
    assert ask(lines, RUN, "--batch", "2", "--beam", "2").out.splitlines(keepends=True)[14:20] == apart


def test_nothing_in_nothing_out(ask: Callable[..., Said]) -> None:
    assert ask(b"", RUN) == Said(0, "", "")


def test_last_line_may_lack_its_end_and_lines_may_end_as_on_windows(ask: Callable[..., Said]) -> None:
    assert ask(b"dogs run\r\ndogs", RUN).out == ask(["dogs run", "dogs"], RUN).out


@pytest.mark.parametrize("packed", [False, True])
def test_bleu_and_its_signature_go_to_stderr(packed: bool, ask: Callable[..., Said], tmp_path: Path) -> None:
    said = ask(LINES, RUN)
    translations = said.out.removesuffix("\n").split("\n")
    references = [*translations[:-1], "something else"]
    text = "".join(f"{line}\n" for line in references).encode()
    file = tmp_path / ("reference.gz" if packed else "reference")
    file.write_bytes(gzip.compress(text) if packed else text)
    scored, score = ask(LINES, RUN, "--reference", file), bleu(translations, references)
    assert scored.out == said.out
    assert scored.err == f"BLEU {score.bleu:.2f} ({score.signature})\n"
    assert 1 < score.bleu < 99.9
    as_json = ask(LINES, RUN, "--reference", file, "--json").json
    assert (as_json["bleu"], as_json["signature"]) == (score.bleu, score.signature)


def test_json_is_one_object(ask: Callable[..., Said]) -> None:
    lines = ask(LINES, RUN).out.removesuffix("\n").split("\n")
    said = ask(LINES, RUN, "--json").json
    assert (said["run_id"], said["model"], said["beam"]) == (RUN, f"runs/{RUN}/model.safetensors", 4)
    assert [each["source"] for each in said["translations"]] == LINES
    assert [each["translation"] for each in said["translations"]] == lines
    assert all((each["score"] is None) == (not each["source"].strip()) for each in said["translations"])
    assert said["translations"][0]["score"] < 0


@pytest.fixture
def spoilt(runs: Path, tmp_path: Path) -> Path:
    """A copy of the exported model, to be spoilt."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for name in ("model.safetensors", "model.json", "tokenizer.json"):
        (folder / name).write_bytes((runs / RUN / name).read_bytes())
    return folder


def test_another_model_may_be_named(ask: Callable[..., Said], spoilt: Path) -> None:
    assert ask(LINES, RUN, "--model", spoilt / "model.safetensors") == ask(LINES, RUN)


def test_a_copy_of_the_finished_model_translates(
    ask: Callable[..., Said], sgp: Callable[..., Said], tmp_path: Path
) -> None:
    assert sgp("export", RUN, "--out", tmp_path / "there/copy.safetensors").code == 0
    assert ask(LINES, RUN, "--model", tmp_path / "there/copy.safetensors") == ask(LINES, RUN)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.safetensors", b"garbage", "model.safetensors is damaged, or not what model.json says it is"),
        ("model.json", b"{", "model.json is damaged: it does not say what model it is"),
        ("model.json", None, "model.json: No such file or directory; it says what model it is"),
        ("tokenizer.json", b"{}", "tokenizer.json is not the tokenizer that "),
        ("tokenizer.json", None, "tokenizer.json: No such file or directory; the model needs it"),
    ],
)
def test_what_is_damaged_is_named(
    name: str, content: bytes | None, says: str, ask: Callable[..., Said], spoilt: Path
) -> None:
    if content is None:
        (spoilt / name).unlink()
    else:
        (spoilt / name).write_bytes(content)
    refused(ask(LINES, RUN, "--model", spoilt / "model.safetensors"), says)


def test_a_model_of_another_shape_is_refused(ask: Callable[..., Said], spoilt: Path) -> None:
    description = json.loads((spoilt / "model.json").read_text())
    (spoilt / "model.json").write_text(json.dumps({**description, "model": {**MODEL, "width": 32}}))
    refused(ask(LINES, RUN, "--model", spoilt / "model.safetensors"), "is damaged, or not what model.json says")


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (LINES, [IMAGES], f"runs/{IMAGES}/model.safetensors is not a model for translation; name a run of"),
        (LINES, [UNFINISHED], f"runs/{UNFINISHED} has no model.safetensors (failed); sgp export writes"),
        (LINES, ["ffff"], "no run or sweep 'ffff'"),
        (LINES, [RUN, "--beam", "0"], "beam must be at least 1, not 0"),
        (LINES, [RUN, "--reference", "nowhere"], "--reference nowhere: No such file or directory"),
        (b"dogs\n\xff\xfe\n", [RUN], "line 2 of the input is not UTF-8"),
    ],
)
def test_mistakes_are_one_sentence(
    content: list[str] | bytes, arguments: list[str], says: str, ask: Callable[..., Said]
) -> None:
    refused(ask(content, *arguments), says)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"a\nb\n", "has 2 lines, but 6 were translated"), (b"a\n\xff\n", "line 2 of reference is not UTF-8")],
)
def test_references_must_fit(content: bytes, says: str, ask: Callable[..., Said]) -> None:
    Path("reference").write_bytes(content)
    refused(ask(LINES, RUN, "--reference", "reference"), says)


def refused(said: Said, says: str) -> None:
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("sgp: ")
    assert said.err.count("\n") == 1


def test_a_line_is_answered_before_the_next_is_read(runs: Path) -> None:
    """As a user of ``--batch 1`` needs it: in a process of its own, through pipes."""
    command = [sys.executable, "-m", "launcher.cli.sgp", "translate", RUN, "--batch", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=runs.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"dogs\n", b"A man\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


WRONG_TYPES: dict[str, list[Any]] = {
    "kind": [None, 3, [], "images"],
    "model": [None, 3, [], "transformer", {}, {"name": 3}, {"name": ["x"]}, {**MODEL, "width": "64"}],
    "vocabulary": [None, "12", 0, -1, 1.5, True, 10**12, 2**40, []],
    "tokenizer": [None, 3, "", "..", "../.bashrc", "/etc/passwd", "a/b", ["x"]],
    "tokenizer_sha256": [3, [], "0"],
}
HOSTILE_SIZES = [{"encoder_layers": 10**12}, {"decoder_layers": 10**7}, {"width": 2**40}, {"feedforward": 2**31}]


@pytest.mark.timeout(120)
def test_no_description_ends_in_a_traceback_or_never(ask: Callable[..., Said], spoilt: Path) -> None:
    """10^12 layers once were built one by one."""
    whole = json.loads((spoilt / "model.json").read_text())
    wrong = [{**whole, name: value} for name, values in WRONG_TYPES.items() for value in values]
    wrong += [{**whole, "model": {**MODEL, **sizes}} for sizes in HOSTILE_SIZES]
    for description in wrong:
        (spoilt / "model.json").write_text(json.dumps(description))
        said = ask(LINES, RUN, "--model", spoilt / "model.safetensors")
        assert said.code == 2, description
        assert "sgp: " in said.err
        assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "tokenizer.json"])
def test_a_pipe_in_place_of_a_file_is_not_read(name: str, ask: Callable[..., Said], spoilt: Path) -> None:
    (spoilt / name).unlink()
    os.mkfifo(spoilt / name)
    refused(ask(LINES, RUN, "--model", spoilt / "model.safetensors"), "not a file")

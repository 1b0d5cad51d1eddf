"""``sgp translate``: lines of text through a run's exported model."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.averaged_model import MODEL
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunArgument, RunsDirOption
from launcher.console.summary import relative
from launcher.runs.find import Run, find_run
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from sgp_core.tasks.translation.scoring import Score

_BATCHES_READ = 8
"""How many batches of lines are read before the first is translated, so that lines of equal length go together."""


def translate(
    run: RunArgument,
    beam: Annotated[int, typer.Option(help="Candidates kept for each line; 1 is greedy search.")] = 4,
    length_penalty: Annotated[float, typer.Option(help="Larger values favour longer translations.")] = 0.6,
    batch: Annotated[int, typer.Option(help="Lines per batch; 1: answer each line before reading the next.")] = 64,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="References, a line each (may be .gz): prints BLEU on stderr."),
    ] = None,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="Another file written by sgp export.")] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = Path(RUNS_DIR),
) -> None:
    """Translate lines from standard input with a run's exported model.

    Prints one line for each line read, in order; empty lines stay empty.
    """
    found = find_run(run, runs_dir)
    path = model or _find_model(found)
    references = None if reference is None else _references(reference)

    from sgp_core.tasks.translation.beam import BeamSearch
    from sgp_core.tasks.translation.translator import load_translator

    translator = load_translator(path, BeamSearch(beam=beam, length_penalty=length_penalty, batch=batch))
    kept: list[dict[str, Any]] = []
    for lines in _chunks(1 if batch == 1 or sys.stdin.isatty() else _BATCHES_READ * batch):
        for line, translation in zip(lines, translator(lines), strict=True):
            if as_json or references is not None:
                kept.append({"source": line, "translation": translation.text, "score": translation.score})
            if not as_json:
                print(translation.text)
        sys.stdout.flush()
    score = None if references is None else _score(kept, references, reference)
    if as_json:
        scored = {} if score is None else {"bleu": score.bleu, "signature": score.signature}
        settings = {"run_id": found.run_id, "model": path, "beam": beam, "length_penalty": length_penalty}
        print_json({**settings, **scored, "translations": kept})
    elif score is not None:
        print(f"BLEU {score.bleu:.2f} ({score.signature})", file=sys.stderr)


def _find_model(run: Run) -> Path:
    """Return the model that the run has exported at its end."""
    path = run.folder.path / MODEL
    if not path.exists():
        raise ConfigurationError(
            f"{relative(run.folder.path)} has no {MODEL} ({run.state}); sgp export writes the model of a checkpoint,"
            " --model FILE takes it"
        )
    return path


def _chunks(size: int) -> Iterator[list[str]]:
    """Yield the lines of standard input without their ends, ``size`` at a time."""
    numbered = enumerate(sys.stdin.buffer, start=1)
    while chunk := [_text(line, f"line {number} of the input") for number, line in islice(numbered, size)]:
        yield chunk


def _references(path: Path) -> list[str]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"--reference {path}: {getattr(error, 'strerror', None) or error}") from error
    return [_text(line, f"line {number} of {path}") for number, line in enumerate(content.split(b"\n"), start=1)]


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where} is not UTF-8") from None


def _score(translations: list[dict[str, Any]], references: list[str], file: Path | None) -> Score:
    from sgp_core.tasks.translation.scoring import bleu

    if references[-1] == "":  # after the last line's end
        references = references[:-1]
    if len(references) != len(translations):
        raise ConfigurationError(
            f"--reference {file} has {len(references)} lines, but {len(translations)} were translated; BLEU needs one"
            " for each"
        )
    return bleu([translation["translation"] for translation in translations], references)

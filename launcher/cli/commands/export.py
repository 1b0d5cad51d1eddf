"""``sgp export``: the averaged model of a run, finished or not."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.averaged_model import MODEL, average_checkpoints, file_to_write
from launcher.cli.confirm import confirm_code
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunArgument, RunsDirOption, TrustOption
from launcher.config.trust import plugins_of
from launcher.console.summary import relative
from launcher.runs.find import find_run
from launcher.runs.json_fields import items, mapping, number
from launcher.runs.number_format import format_value
from launcher.runs.plain_text import clean
from launcher.runs.scores import Scores, read_scores
from sgp_core.atomic_files import read_json, replace_file
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import LOSS
from sgp_core.tasks.formats import FORMATS
from sgp_core.tasks.kinds import TASKS


def export(
    run: RunArgument,
    step: Annotated[
        str | None, typer.Option(help="Checkpoint to take: a step, best or last. By default the finished model.")
    ] = None,
    average: Annotated[
        int, typer.Option(help="Mean over so many checkpoints: that one and those before it.", min=1)
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write; by default in the run folder.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Write a folder that another library loads: transformers, for language models."),
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = Path(RUNS_DIR),
) -> None:
    """Write the average of a run's models as plain safetensors.

    Averaged over the network, from the run's end, from a checkpoint, or over several of them.
    """
    found = find_run(run, runs_dir)
    finished = found.folder.path / MODEL
    whole = step is None and average == 1 and found.state == "completed" and finished.is_file()
    if not whole and not trust:
        confirm_code(found, plugins_of(found.spec))
    with tempfile.TemporaryDirectory(prefix="sgp-") as aside:
        if whole:
            written = finished if form else _copy(finished, out)
        else:
            written = average_checkpoints(found, step or "last", average, Path(aside) if form else out)
        facts = read_json(written.with_suffix(".json")) or {}
        if form is not None:
            written = _write_as(form, written, facts, out or found.folder.path / written.stem.replace("model", form, 1))
    if as_json:
        files = {"folder": written} if form else {"file": written, "description": written.with_suffix(".json")}
        print_json({**facts, **files})
        return
    print(clean(f"{relative(written)}: {_describe(facts, read_scores(found.spec))}"))


def _write_as(form: str, model: Path, facts: Mapping[str, Any], folder: Path) -> Path:
    """Write a model in another library's format, and return its folder."""
    chosen = FORMATS.get(form)
    if facts.get("kind") != chosen.task:
        raise ConfigurationError(f"--format {form}: that is for a model that {TASKS.get(chosen.task).does}")
    chosen().write(model, folder)
    return folder


def _copy(finished: Path, out: Path | None) -> Path:
    """Return the exported model, or its copy at ``out``."""
    if out is None:
        return finished
    target = file_to_write(out, finished.name)
    if target.exists() and target.samefile(finished):
        return finished
    files = [(finished, target), (finished.with_suffix(".json"), target.with_suffix(".json"))]
    if (tokenizer := _tokenizer(finished)) is not None:
        files.append((finished.parent / tokenizer, target.parent / tokenizer))
    for source, copy in files:
        try:
            if not source.is_file():  # a device has no end
                raise FileNotFoundError(errno.ENOENT, "there is no such file")
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(copy) as temporary:
                shutil.copyfile(source, temporary)
        except OSError as error:
            raise ConfigurationError(f"cannot copy {source} to {copy}: {error.strerror or error}") from error
    return target


def _tokenizer(model: Path) -> str | None:
    """Return the name of the tokenizer's file beside a model, None if it has none.

    Raises:
        ConfigurationError: the description names another file, which would be written where it says.
    """
    description = model.with_suffix(".json")
    name = (read_json(description) or {}).get("tokenizer")
    if name is None:
        return None
    if not isinstance(name, str) or not re.fullmatch(r"tokenizer[\w.-]*", name):
        raise ConfigurationError(f"{relative(description)} is damaged: tokenizer must be a file such as tokenizer.json")
    return name


def _describe(facts: Mapping[str, Any], scores: Scores) -> str:
    """Return what a model is, and how good: its name, its steps and its scores; the loss only where it is the score."""
    steps = items(facts.get("averaged_steps"))
    at = f"steps {', '.join(map(str, steps))}" if steps else f"step {facts.get('step', '?')}"
    parts = [f"averaged {mapping(facts.get('model')).get('name', 'model')} at {at}"]
    for name, given in mapping(facts.get("scores")).items():
        value, metric = number(given), scores.find(name)
        if value is not None and (name != LOSS.name or scores.candidates == (LOSS.name,)):
            parts.append(f"{metric.label} {format_value(metric, value)}")
    return ", ".join(parts)

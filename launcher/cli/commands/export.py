"""``sgp export``: the averaged model of a run, finished or not."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.confirm import confirm_code
from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunArgument, RunsDirOption, TrustOption
from launcher.config.trust import plugins_of
from launcher.console.summary import relative
from launcher.runs.find import Run, find_run
from launcher.runs.json_fields import items, mapping, number, text
from launcher.runs.number_format import format_value
from launcher.runs.plain_text import clean
from launcher.runs.run_folder import RunFolder
from launcher.runs.scores import Scores, read_scores
from sgp_core.atomic_files import read_json, replace_file
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import LOSS

if TYPE_CHECKING:
    from sgp_core.training.checkpoint import Manifest

MODEL = "model.safetensors"


def export(
    run: RunArgument,
    step: Annotated[
        str | None, typer.Option(help="Checkpoint to take: a step, best or last. By default the finished model.")
    ] = None,
    average: Annotated[
        int, typer.Option(help="Mean over so many checkpoints: that one and those before it.", min=1)
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write; by default in the run folder.")] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = Path(RUNS_DIR),
) -> None:
    """Write the average of a run's models as plain safetensors.

    Averaged over the network, from the run's end, from a checkpoint, or over several of them.
    """
    found = find_run(run, runs_dir)
    finished = found.folder.path / MODEL
    if step is None and average == 1 and found.state == "completed" and finished.is_file():
        written = _copy(finished, out)
    else:
        if not trust:
            confirm_code(found, plugins_of(found.spec))
        written = _average(found, step or "last", average, out)
    facts = read_json(written.with_suffix(".json")) or {}
    if as_json:
        print_json({**facts, "file": written, "description": written.with_suffix(".json")})
        return
    print(clean(f"{relative(written)}: {_describe(facts, read_scores(found.spec))}"))


def _copy(finished: Path, out: Path | None) -> Path:
    """Return the exported model, or its copy at ``out``."""
    if out is None:
        return finished
    target = _target(out, finished.name)
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


def _average(run: Run, step: str, average: int, out: Path | None) -> Path:
    """Write the average over the workers of one or several checkpoints; return its file."""
    folder = run.folder
    from launcher.runs.recorded_code import find_plugins
    from sgp_core.plugins import Plugin, load_recorded_plugins
    from sgp_core.training.checkpoint import CheckpointStore
    from sgp_core.training.config import Experiment
    from sgp_core.training.export import export_checkpoint

    if not run.experiment:
        raise ConfigurationError(f"{relative(folder.spec)} cannot be read: it says what the model is")
    try:
        recorded = [Plugin.from_dict(values) for values in items(run.spec.get("plugins"))]
        load_recorded_plugins(find_plugins(recorded, text(run.spec.get("snapshot")), folder.path.parent))
        experiment = Experiment.from_dict(dict(run.experiment))
        fingerprint = experiment.fingerprint()
    except ConfigurationError:  # a part of the experiment is unknown here, or its plug-in is gone
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{relative(folder.spec)} is damaged: it does not say what the model is") from error
    store = CheckpointStore(folder.path, experiment.world_size, fingerprint)
    there = store.manifests()
    newest = _choose(there, step, folder.path)
    chosen = _latest(there, newest, average, folder.path)
    name = f"model-step-{newest.step}" + (f"-average-{average}" if average > 1 else "")
    scores = _scores(folder, newest.step) if average == 1 else {}  # a mean of checkpoints was never validated
    target = _target(out or folder.path, f"{name}.safetensors")
    try:
        export_checkpoint(folder.path, experiment, chosen, target, scores)
    except OSError as error:
        raise ConfigurationError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _choose(manifests: list[Manifest], step: str, run: Path) -> Manifest:
    """Return the checkpoint that ``--step`` names; ``manifests`` are newest first."""
    if not manifests:
        raise ConfigurationError(f"{relative(run)} has no complete checkpoint yet")
    if step == "last":
        return manifests[0]
    if step == "best":
        scored = [manifest for manifest in manifests if manifest.score is not None]
        if not scored:
            raise ConfigurationError(f"no checkpoint of {relative(run)} has been evaluated; use --step last")
        return max(scored, key=lambda one: (one.score, -one.step))
    there = ", ".join(str(manifest.step) for manifest in reversed(manifests))
    found = [manifest for manifest in manifests if str(manifest.step) == step]
    if not found:
        raise ConfigurationError(f"--step {step}: {relative(run)} has checkpoints of step {there}; or use best or last")
    return found[0]


def _latest(manifests: list[Manifest], newest: Manifest, number: int, run: Path) -> list[Manifest]:
    """Return ``number`` checkpoints up to ``newest``; ``manifests`` are newest first."""
    until = [manifest for manifest in manifests if manifest.step <= newest.step]
    if number > len(until):
        there = ", ".join(str(manifest.step) for manifest in reversed(until))
        raise ConfigurationError(
            f"--average {number}: {relative(run)} has checkpoints of step {there}; checkpoint.keep_last sets how many"
            " are kept"
        )
    return until[:number]


def _target(out: Path, name: str) -> Path:
    """Return the file to write; in a folder that is ``name``."""
    if out.is_dir():
        return out / name
    if out.suffix != ".safetensors":
        raise ConfigurationError(f"--out {out}: must be a folder or end in .safetensors")
    return out


def _scores(folder: RunFolder, step: int) -> dict[str, Any]:
    """Return the validation row of a step; empty if there is none."""
    from sgp_core.tracking import read_rows

    try:
        rows = read_rows(folder.metrics)
    except OSError:
        return {}
    return next((row for row in rows if row.get("split") == "val" and row.get("step") == step), {})


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

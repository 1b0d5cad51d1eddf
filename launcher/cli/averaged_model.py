"""The averaged model of a run that has a checkpoint, whatever state the run is in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.console.summary import relative
from launcher.runs.find import Run
from launcher.runs.json_fields import items, text
from launcher.runs.run_folder import RunFolder
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from sgp_core.training.checkpoint import Manifest

MODEL = "model.safetensors"
"""The model that a run exports at its end."""


def average_checkpoints(run: Run, step: str, average: int, out: Path | None) -> Path:
    """Write the average over the workers of one or several checkpoints; return its file.

    Args:
        step: of a checkpoint, or best or last.
        average: how many checkpoints up to that one are averaged.
        out: the file, or the folder for it; None: the run's.

    Raises:
        ConfigurationError: there is no such checkpoint, the run's code or data are missing, or writing fails.
    """
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
    target = file_to_write(out or folder.path, f"{name}.safetensors")
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


def file_to_write(out: Path, name: str) -> Path:
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

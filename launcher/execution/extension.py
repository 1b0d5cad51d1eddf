"""The beginning of a run that extends another one: its last checkpoint and its rows, in the folder of the new run."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from launcher.config.run_plan import RunPlan
from launcher.runs.run_folder import RunFolder
from sgp_core.checkpoint_files import CheckpointError
from sgp_core.training.manifest import read_manifest, write_manifest


def begin_extension(plan: RunPlan, folder: RunFolder) -> None:
    """Give the run the checkpoint that it begins with, unless it extends none or has a checkpoint of its own.

    Files of the checkpoint never change, so links to them are enough where the file system has them.

    Raises:
        OSError: the checkpoint is no longer there, or cannot be copied.
    """
    extends = plan.experiment.extends
    if extends is None or any(folder.path.glob("checkpoints/step-*/manifest.json")):
        return
    earlier, name = folder.path.parent / extends["run"], f"checkpoints/step-{extends['step']}"
    try:
        manifest = read_manifest(earlier / name)
    except CheckpointError as error:
        raise FileNotFoundError(f"the checkpoint with which this run is to begin cannot be used: {error}") from error
    target = folder.path / name
    target.mkdir(parents=True, exist_ok=True)
    for shard in manifest.shards:
        _link(earlier / name / shard.file, target / shard.file)
    for rows in earlier.glob("metrics*.jsonl"):
        if not (folder.path / rows.name).exists():
            shutil.copyfile(rows, folder.path / rows.name)
    write_manifest(target, replace(manifest, experiment=plan.experiment.fingerprint()))


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

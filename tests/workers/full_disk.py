"""What test_full_disk.py runs where it may mount a small file system: ``python -m tests.workers.full_disk DISK WHAT``.

It prints how a run ended that met a full disk, and how it ended when it was started again with room.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgp_core.training.callbacks import CALLBACKS, Callback, TrainingProgress
from sgp_core.training.checkpoint import CheckpointStore

STEPS, EVERY, KIB = 40, 10, 1024
COMMAND = (
    *("-m", "launcher.cli.train", "cluster.workers_per_node=2", "tracker=none", f"training.max_steps={STEPS}"),
    *(
        f"checkpoint.every_steps={EVERY}",
        "checkpoint.keep_last=9",
        "checkpoint.asynchronous=false",
        "log_every=1",
        "evaluation.every_epochs=0",
    ),
)


def main(disk: Path, what: str) -> None:
    mount(disk, "size=3000k" if what == "metrics" else "size=1000k")
    runs = disk / "runs"
    ended = train(runs, filler=disk / "filler" if what == "metrics" else None)
    run = next(runs.glob("??????????"))
    store = CheckpointStore(run, 2)
    whole = [manifest.step for manifest in store.manifests() for rank in range(2) if store.read_shard(manifest, rank)]
    reports = [json.loads((run / f"rank-{rank}.json").read_text())["status"] for rank in range(2)]
    first = {"exit": ended.returncode, "err": ended.stderr, "summary": summary(run), "whole": whole, "reports": reports}
    (disk / "filler").unlink(missing_ok=True)
    mount(disk, "remount,size=60m")
    again = train(runs)
    model = (run / "model.safetensors").read_bytes().hex() if again.returncode == 0 else again.stderr
    rows = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    left = [str(path) for path in run.rglob("*") if path.suffix == ".tmp" or path.name == ".reserve"]
    print(json.dumps({**first, "again": again.returncode, "model": model, "rows": rows, "left": left}))


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def train(runs: Path, filler: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Train; a worker makes ``filler`` as large as it can, in the middle between two checkpoints."""
    return subprocess.run(
        [sys.executable, *COMMAND, f"plugins=[{__file__}]", "callbacks=[fills_disk]", f"runs_dir={runs}"],
        env={**os.environ, "FILLER": str(filler or "")},
        capture_output=True,
        text=True,
        check=False,
    )


@CALLBACKS.register("fills_disk")
@dataclass(frozen=True)
class FillsDisk(Callback):
    """Fills the disk after a step between two checkpoints."""

    def after_step(self, progress: TrainingProgress) -> None:
        path = os.environ["FILLER"]
        if not path or progress.rank or progress.step != EVERY + EVERY // 2:
            return
        with open(path, "wb", buffering=0) as file:
            for size in (64 * KIB, KIB, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass


def summary(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

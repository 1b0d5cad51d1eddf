"""What test_full_disk.py runs where it may mount a small file system: ``python -m tests.workers.full_disk DISK WHAT``.

It prints how a run ended that met a full disk, and how it ended when it was started again with room.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from sgp_core.training.checkpoint import CheckpointStore
from tests.support.waiting import wait_until

STEPS, EVERY, KIB = 40, 10, 1024
COMMAND = (
    *("-m", "launcher.cli.train", "cluster.workers_per_node=2", "tracker=none", f"training.max_steps={STEPS}"),
    *(f"checkpoint.every_steps={EVERY}", "checkpoint.keep_last=9", "log_every=1", "evaluation.every_epochs=0"),
)


def main(disk: Path, what: str) -> None:
    mount(disk, "size=3000k" if what == "metrics" else "size=1000k")
    runs = disk / "runs"
    if what == "metrics":
        threading.Thread(target=fill, args=(disk,), daemon=True).start()
    ended = train(runs)
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


def train(runs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *COMMAND, f"runs_dir={runs}"], capture_output=True, text=True, check=False)


def fill(disk: Path) -> None:
    """Fill the disk once there is a checkpoint."""
    wait_until(lambda: any(disk.glob(f"runs/*/checkpoints/step-{EVERY}/manifest.json")), "a checkpoint")
    with open(disk / "filler", "wb", buffering=0) as file:
        for size in (64 * KIB, KIB, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def summary(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

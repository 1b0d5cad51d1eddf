"""What Weights & Biases wrote offline, read back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def stored(directory: Path, run_id: str = "run7") -> dict[str, Any]:
    """Read a run's offline files with W&B's own inspector: every line of every fragment, config, summary, ..."""
    read: dict[str, Any] = {"lines": [], "run": {}, "summary": {}, "metrics": {}, "artifacts": [], "exit": None}
    for path in sorted(directory.glob(f"wandb/offline-run-*/run-{run_id}.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        for line in subprocess.check_output(command, text=True).splitlines():
            record = json.loads(line)
            content = record.get(record["type"], {})
            if record["type"] == "history":
                read["lines"].append(content["item"])
            elif record["type"] == "run":
                read["run"] = content
            elif record["type"] == "summary":
                read["summary"] |= content["update"]
            elif record["type"] == "metric" and "name" in content:
                read["metrics"][content["name"]] = content
            elif record["type"] == "artifact":
                read["artifacts"].append(content)
            elif record["type"] == "exit":
                read["exit"] = content.get("exit_code", 0)
    return read

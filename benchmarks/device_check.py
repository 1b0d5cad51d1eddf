"""Whether the CUDA paths work on this machine: every check by name, with what it found, how long it took, pass or fail.

    python benchmarks/device_check.py
    python benchmarks/device_check.py --json check.json --only symmetric_memory

It needs one NVIDIA GPU, PyTorch and scikit-learn, and takes a few minutes. On one GPU the workers of a check take
turns, which torch allows symmetric memory for tests: their times are not those of a GPU each. NCCL does not allow it,
and is tried with a group of one. With two GPUs or more, workers have one each as far as there are enough, and NCCL's
messages are checked as well. What a check asks is in ``benchmarks/suite/device``. The exit code is 0 if all pass, 1 if
not, 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from suite.device import one_process, single, workers
from suite.device.check import Check
from suite.device.crew import run


def load(kind: str, gpus: int) -> list[Check]:
    """Return all checks that a machine with so many GPUs can do, those that share processes side by side."""
    if kind == "cpu":  # the machinery, and what models do between CPUs
        return workers.checks(2, "shared_memory", "gloo")
    found = [*single.checks(), *one_process.checks()]
    found.sort(key=lambda check: check.group)
    for count in (2, 4):
        found += workers.checks(count, "symmetric_memory", "gloo" if gpus < count else "cpu:gloo,cuda:nccl")
        if gpus >= count:
            found += workers.checks(count, "p2p", "nccl")
    return found


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write what was found")
    parser.add_argument("--only", default="", help="run checks with this in their name")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no check after so long")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: what can be tried without a GPU"
    )
    return parser


def main() -> None:
    """Run the checks and print them as they are done."""
    chosen = options_parser().parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("there is no NVIDIA GPU that torch can use", file=sys.stderr)
        raise SystemExit(2)
    about = machine(chosen.device)
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    checks = [check for check in load(chosen.device, about["gpus"]) if chosen.only in check.name]
    rows = []
    began = time.monotonic()
    for row in run(checks, load, chosen.device, began + chosen.seconds):
        rows.append(row)
        print(line(row), flush=True)
        if chosen.json:
            chosen.json.parent.mkdir(parents=True, exist_ok=True)
            chosen.json.write_text(json.dumps({"about": about, "checks": rows}, indent=1) + "\n", encoding="utf-8")
    failed = [row for row in rows if not row["ok"]]
    for row in failed:
        print(f"\n{row['name']}:\n{row['problem']}")
    print(f"\n{len(rows) - len(failed)} of {len(rows)} checks pass, {time.monotonic() - began:.0f} s")
    raise SystemExit(1 if failed else 0)


def machine(kind: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    about: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version(), "gpus": 0}
    if kind == "cuda":
        about |= {"cuda": torch.version.cuda, "gpus": torch.cuda.device_count(), "gpu": torch.cuda.get_device_name(0)}
    return about


def line(row: dict[str, Any]) -> str:
    """Return one check as a line of the table."""
    why = row["problem"].strip().splitlines()[-1] if row["problem"] else row["said"]
    return f"{'pass' if row['ok'] else 'FAIL'}  {row['seconds']:6.1f} s  {row['name']:<75}  {why[:160]}"


if __name__ == "__main__":
    main()

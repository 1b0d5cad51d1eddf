"""Makes the picture of a report in the documentation.

    python -m docs.make_report_screenshot [SWEEP] [--runs-dir RUNS]

Without a sweep, a small one is run on this machine first: three algorithms on a ring of four workers, two seeds each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.support import browser

PICTURE = Path(__file__).parent / "images" / "report.png"
SWEEP = (
    "-m",
    "algorithm=sgp,local_sgd,allreduce",
    "seed=1,2",
    "topology=ring",
    "cluster.workers_per_node=4",
    "training.epochs=8",
    "optimizer.lr=0.02",
    "evaluation.consensus_every=4",
    "log_every=2",
    "tracker=none",
)
WIDTH, SCALE = 1200, 1.5


def main() -> None:
    """Run the sweep if none is given, report on it, and photograph the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", nargs="?", help="id of a sweep")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, sweep = given.runs_dir, given.sweep
        if sweep is None:
            runs = Path(folder, "runs")
            subprocess.run([sys.executable, "-m", "launcher.cli", *SWEEP, f"runs_dir={runs}"], check=True)
            sweep = next(runs.glob("sweeps/*")).name
        photograph(report(sweep, runs, Path(folder)), given.out)


def report(sweep: str, runs: Path, folder: Path) -> Path:
    """Return the page of a sweep."""
    command = [sys.executable, "-m", "launcher.commands.app", "report", sweep]
    options = ["--runs-dir", str(runs), "--out", str(folder / "report"), "--format", "html", "--json"]
    said = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return Path(json.loads(said.stdout)["files"][0])


def photograph(page: Path, picture: Path) -> None:
    """Save what the page looks like, in few colours, which it has."""
    opened = browser.Browser(browser.install())
    try:
        opened.photograph(page, picture, width=WIDTH, scale=SCALE)
    finally:
        opened.close()
    Image.open(picture).convert("RGB").quantize(255, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        picture, optimize=True
    )
    print(f"{picture}: {picture.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

"""Make the picture of a report for the documentation.

    python -m docs.make_report_screenshot [SWEEP] [--runs-dir RUNS]

Without a sweep, a small one is run on this machine first: three algorithms on two graphs, workers with different data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support import browser
from tests.support.install import install
from tests.support.packages import BROWSER

PICTURE = Path(__file__).parent / "images" / "report.png"
SWEEP = (
    "-m",
    "algorithm=sgp,dpsgd,local_sgd",
    "topology=ring,one_peer_exponential",
    "partition=label_shards",
    "seed=1,2",
    "training.epochs=8",
    "optimizer.lr=0.02",
    "log_every=4",
    "tracker=none",
)
WIDTH, SCALE = 1200, 1.5


def main() -> None:
    """Run the sweep if none is given, write its report, and take a screenshot of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", nargs="?", help="id of a sweep")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=PICTURE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, sweep = given.runs_dir, given.sweep
        if sweep is None:
            runs = Path(folder, "runs")  # where the command puts them by itself
            subprocess.run([sys.executable, "-m", "launcher.cli.train", *SWEEP], check=True, cwd=folder)
            sweep = next(runs.glob("sweeps/*")).name
        photograph(report(sweep, runs, Path(folder)), given.out)


def report(sweep: str, runs: Path, folder: Path) -> Path:
    """Write the report of a sweep and return its HTML page."""
    command = [sys.executable, "-m", "launcher.cli.sgp", "report", sweep]
    options = ["--runs-dir", str(runs), "--out", str(folder / "report"), "--format", "html", "--json"]
    said = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return Path(json.loads(said.stdout)["files"][0])


def photograph(page: Path, picture: Path) -> None:
    """Save a screenshot of the page."""
    install(BROWSER)
    opened = browser.Browser()
    try:
        opened.photograph(page, picture, width=WIDTH, scale=SCALE)
    finally:
        opened.close()
    with Image.open(picture) as opened_picture:
        _in_few_colours(opened_picture.convert("RGB")).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size // 1024} kB")


def _in_few_colours(image: Image.Image) -> Image.Image:
    """Reduce an image to its 256 most frequent colours. Others, at the edges of glyphs, become the nearest of these."""
    pixels = np.asarray(image, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    packed, place, count = np.unique(pixels, return_inverse=True, return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.int64)
    kept = colours[np.argsort(count)[-256:]]
    nearest = np.array([np.argmin(((kept - colour) ** 2).sum(axis=1)) for colour in colours])
    few = Image.fromarray(nearest[place].reshape(pixels.shape).astype(np.uint8), mode="P")
    few.putpalette(kept.astype(np.uint8).tobytes())
    return few


if __name__ == "__main__":
    main()

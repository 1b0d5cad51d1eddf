"""The papers' experiments in conf/experiment/: they compose, name their sources, and stay themselves in small."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from launcher.config.schema import choices, options_class
from sgp_core.training.schedules import SCHEDULES
from tests.docs.pages import ROOT
from tests.support.command_line import composed

PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
TASKS = ("imagenet", "cifar10", "wmt16", "fineweb", "muloco", "diloco")
PAPERS = [name for name in PRESETS if name.startswith(tuple(f"{task}_" for task in TASKS))]
LARGE = [name for name in PAPERS if not name.endswith("_small")]
SMALL = [f"{name}_small" for name in LARGE]
WORLDS = {"imagenet": 256, "cifar10": 32, "wmt16": 64, "fineweb": 8, "muloco": 8, "diloco": 8}
"""Workers of the published runs: 32 nodes of 8, 32, 8 nodes of 8, and 8 or fewer."""
WORKERS = {"imagenet_adpsgd": 32} | {name: 8 for name in LARGE if name.endswith(("25k", "400k"))}
"""Where that is another number: a worker for each node, and SGP's runs on 8 GPUs."""
NODE_RATES = {"imagenet": (0.1, 3.2), "cifar10": (0.05, 1.6), "wmt16": (1e-7, 5e-4)}
NODE_RATES |= {"fineweb": (0.0, 6e-4), "muloco": (0.003125, 0.03125), "diloco": (0.0002, 0.002)}
"""First and highest learning rate of the published runs."""
SMALL_RATES = {"imagenet": (0.0125, 0.05), "cifar10": (0.0125, 0.05), "wmt16": (4e-7, 0.002)}
SMALL_RATES |= {**NODE_RATES, "fineweb": (0.0, 0.002), **SMALL_RATES}
"""Of the small ones: 0.1 for every 256 images as well; of language models, as in the large ones, or tuned."""


@cache
def plan(preset: str) -> RunPlan:
    path = ["dataset.path=."] if preset.startswith("imagenet") and not preset.endswith("_small") else []
    return make_plan(composed(f"experiment={preset}", *path))


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and the libraries that read them need not be there to compose."""
    for cls in (options_class("dataset", known) for known in choices("dataset")):
        monkeypatch.setattr(cls, "check", lambda self: None)


def rates(preset: str) -> tuple[float, float]:
    """Return the first and the highest learning rate of a run."""
    experiment = plan(preset).experiment
    options = dict(experiment.schedule)
    schedule = SCHEDULES.build(options.pop("name"), **options)
    world = experiment.world_size
    factors = [schedule.factor(step, 1000, 10**6, world) for step in range(0, 6001, 100)]
    return experiment.optimizer["lr"] * factors[0], experiment.optimizer["lr"] * max(factors)


@pytest.mark.parametrize("preset", PRESETS)
def test_composes(preset: str) -> None:
    assert plan(preset).cluster.name == (
        "slurm" if preset in LARGE else "local"
    )  # hundreds of workers never by mistake


def test_every_experiment_has_a_small_twin() -> None:
    assert sorted(PAPERS) == sorted(LARGE + SMALL)


@pytest.mark.parametrize("preset", LARGE)
def test_names_its_paper_and_what_is_unconfirmed(preset: str) -> None:
    folder = ROOT / "conf" / "experiment"
    text = (folder / f"{preset}.yaml").read_text()
    said = "".join(line for line in text.splitlines() if line.startswith("#"))
    bases = ["", *re.findall(r"- (base/\w+)", text)]
    while bases[-1]:  # one may have another below it
        bases.append("".join(re.findall(r"- (base/\w+)", (folder / f"{bases[-1]}.yaml").read_text())))
    assert "et al. 20" in said or "both papers" in said
    assert "onfirmed" in said + "".join((folder / f"{base}.yaml").read_text() for base in bases if base)


def test_the_page_has_a_row_for_every_experiment() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == LARGE


@pytest.mark.parametrize("preset", LARGE)
def test_is_the_size_and_has_the_learning_rate_of_the_paper(preset: str) -> None:
    task = preset.split("_")[0]
    assert plan(preset).world_size == WORKERS.get(preset, WORLDS[task])
    assert rates(preset) == pytest.approx(NODE_RATES[task])


@pytest.mark.parametrize("preset", LARGE)
def test_small_twin_keeps_what_makes_the_experiment(preset: str) -> None:
    large, small = (plan(name).experiment.to_dict() for name in (preset, f"{preset}_small"))
    assert small["world_size"] == 4
    assert small["algorithm"] == large["algorithm"]
    for group in ("outer", "topology"):
        same = {option: value for option, value in large[group].items() if option not in ("tau", "phases")}
        assert small[group] == small[group] | same
    for group in ("optimizer", "schedule"):
        assert small[group]["name"] == large[group]["name"]
    assert rates(f"{preset}_small") == pytest.approx(SMALL_RATES[preset.split("_")[0]])
    decays = [run["schedule"].get("decay_epochs") for run in (large, small)]
    if decays[0]:  # at the same parts of the run
        shapes = [
            [epoch / run["training"]["epochs"] for epoch in run["schedule"]["decay_epochs"]] for run in (large, small)
        ]
        assert shapes[0] == pytest.approx(shapes[1])


def test_runs_on_a_cluster(sgp_train, here: Path) -> None:
    for split in ("train", "val"):
        (here / "photos" / split / "tench").mkdir(parents=True)
        (here / "photos" / split / "tench" / "1.JPEG").touch()
    said = sgp_train("experiment=imagenet_sgp", "dataset.path=photos", "dry_run=true")
    assert said.code == 0, said.err
    assert "--nodes=32" in said.out
    assert "--ntasks-per-node=8" in said.out


def test_the_users_word_is_the_last() -> None:
    point = composed("experiment=imagenet_sgp_small", "algorithm=dpsgd", "cluster=slurm", "cluster.workers_per_node=8")
    assert (point.choices["algorithm"], point.choices["cluster"]) == ("dpsgd", "slurm")
    assert point.settings["cluster"]["workers_per_node"] == 8
    assert point.settings["schedule"]["decay_epochs"] == [3.0, 6.0, 8.0]

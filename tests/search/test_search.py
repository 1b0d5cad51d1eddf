"""Searches: what may be searched over, that they go on where they stopped, and that they find something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.search.space import Dimension, parse_space
from sgp_core.errors import ConfigurationError
from tests.support import sgp_command
from tests.support.launched import Said, read

Train = Callable[..., Said]
QUICK = ("cluster=inline", "tracker=none", "training.max_steps=2", "evaluation.every_epochs=0", "log_every=2")
RATES = "optimizer.lr=tag(log,interval(0.001,1))"


def test_the_words_of_a_sweep_span_a_space() -> None:
    words = ["-m", "seed=3", RATES, "training.batch_size=int(interval(8,64))", "topology=ring,complete", "a=range(1,4)"]
    fixed, space = parse_space(words)
    assert fixed == ["-m", "seed=3"]
    assert space == [
        Dimension("optimizer.lr", (), 0.001, 1.0, logarithmic=True),
        Dimension("training.batch_size", (), 8.0, 64.0, whole=True),
        Dimension("topology", ("ring", "complete")),
        Dimension("a", ("1", "2", "3")),
    ]
    assert [dimension.samples() for dimension in space][:2] == [["0.001", "1.0"], ["8", "64"]]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=1", "something to search over"),
        ("optimizer.lr=interval(1,0.1)", "needs low < high"),
        ("optimizer.lr=tag(log,interval(0,1))", "and low > 0"),
        ("model=glob(*)", "a search takes"),
    ],
)
def test_what_cannot_be_searched_is_told(word: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse_space([word])


def test_an_invalid_value_is_found_before_anything_starts(sgp_train: Train, here: Path) -> None:
    said = sgp_train("-m", "search=tpe", RATES, "topology=ring,rings", *QUICK)
    assert said.code == 2
    assert "rings" in said.err
    assert len(said.err.splitlines()) == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("words", [("search=tpe", "seed=1,2"), ("-m", "search=tpe", "search.trials=0", "seed=1,2")])
def test_a_search_is_a_sweep_with_trials(sgp_train: Train, here: Path, words: tuple[str, ...]) -> None:
    assert sgp_train(*words, *QUICK).code == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_search_goes_on_where_it_stopped(
    sgp_train: Train, here: Path, kind: str, sgp: Callable[..., sgp_command.Said]
) -> None:
    words = ("-m", f"search={kind}", RATES, "topology=ring,complete", *QUICK)
    first = sgp_train(*words, "search.trials=2")
    assert first.code == 0
    assert "best accuracy of 2: " in first.out
    [record] = here.glob("runs/sweeps/*/sweep.json")
    before = read(record)
    assert len(before["points"]) == 2
    assert before["search"]["name"] == kind
    assert (before["search"]["metric"], before["search"]["direction"]) == ("accuracy", "maximize")
    more = sgp_train(*words, "search.trials=4")
    [winner] = [line for line in more.out.splitlines() if line.startswith("best accuracy of 4: ")]
    status = sgp("status", record.parent.name, "--json").json["best"]
    first_row = sgp("table", record.parent.name, "--json").json["rows"][0]
    assert (status["run_id"], f"{status['value']:.4f} " in winner) == (first_row["run_id"], True)
    overrides = read(here / "runs" / status["run_id"] / "spec.json")["overrides"]
    assert f" with {' '.join(overrides)}; compare all" in winner
    after = read(record)
    assert after["points"][:2] == before["points"]
    rates = {point["overrides"][0] for point in after["points"]}
    assert len(rates) == 4  # going on does not draw the same again
    assert sgp_train(*words, "search.trials=4").code == 0
    assert read(record)["points"] == after["points"]


def test_failed_runs_do_not_end_a_search(sgp_train: Train, here: Path) -> None:
    said = sgp_train("-m", "search=random", "search.trials=2", RATES, *QUICK, "debug.fail_rank=0", "debug.fail_step=1")
    assert said.code == 1
    assert "no run has measured its accuracy yet" in said.out

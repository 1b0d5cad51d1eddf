"""Models on their way to peers while gradients are computed at them: what may happen meanwhile, and what not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.workers import run_workers
from tests.workers import travelling


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each worker found."""
    return run_workers(travelling.WORKERS, travelling.everything, str(tmp_path_factory.mktemp("saved")))


@pytest.mark.parametrize("case", travelling.LOOKING)
def test_to_look_at_it_changes_no_bit_of_what_follows(ranks: list[dict[str, Any]], case: str) -> None:
    assert [rank["looked at"][case] for rank in ranks] == [True] * travelling.WORKERS


def test_after_finish_models_may_change_and_their_sum_is_kept(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert max(rank["changed after"].values()) < 1e-11, rank["changed after"]


@pytest.mark.parametrize(
    ("way", "parameter"), [("clamp", "bias"), ("load", "(weight|bias)"), ("max_norm", "table.weight")]
)
def test_a_change_under_way_is_named_and_allowed_after_finish(
    ranks: list[dict[str, Any]], way: str, parameter: str
) -> None:
    for rank in ranks:
        for said in rank["changed under way"][way]:
            assert re.match(f"parameter '{parameter}' was changed between two steps, while it was being sent;", said)
            assert said.endswith("change it after gossip.finish() on all workers, or use order=adapt_then_combine")
        assert len(rank["changed under way"][way]) == 2


def test_what_leaves_parameters_alone_is_no_change(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert set(rank["not changed"].values()) == {3}


@pytest.mark.parametrize(("kind", "transport"), travelling.STEPS_OVER)
def test_steps_of_all_kinds_follow_the_equation(ranks: list[dict[str, Any]], kind: str, transport: str) -> None:
    for rank in ranks:
        found = rank["steps"][kind, transport]
        assert found["steps"] == 0
        assert max(found.values()) <= 1e-12, found


def test_in_the_middle_of_a_step_no_worker_looks_at_the_whole_model(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["in the middle"] == [
            *(
                f"{what} in the middle of a step: the last of the optimizers has not stepped yet"
                for what in ("averaged()", "consensus_distance()", "state_dict()")
            ),
            "2",
        ]


def test_states_of_earlier_versions_go_to_the_order_they_had(ranks: list[dict[str, Any]]) -> None:
    for found in (rank["earlier"] for rank in ranks):
        assert found["in flight"]
        for way in ("into the new order", "folder"):
            assert found[way].startswith(
                "ConfigurationError: the state was saved with algorithm osgp(order=adapt_then_combine), Gossip is built"
                " with osgp(order=adapt_while_communicate); build it as it was"
            )
        assert found["without identity"].startswith("ConfigurationError: the state has messages under way, which this")
        assert "order=adapt_then_combine" in found["without identity"]
        for way in ("into its own", "its own without identity"):
            assert found[way] == ""
            assert found[f"{way}, step"] == 4
        assert found["reshaped"] <= 1e-12

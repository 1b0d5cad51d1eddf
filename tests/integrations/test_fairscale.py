"""fairscale's SlowMo and ours, number by number, in four real workers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgp_core.errors import ConfigurationError
from sgp_core.integrations.fairscale import from_arguments
from tests.support.preloaded import run_preloaded
from tests.workers.fairscale import CASES, CONVERTED, FEWER_STEPS, GRAPHS, IN_50_STEPS, STEPS, use_fairscale

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    packages = ["fairscale.experimental.nn.data_parallel.gossip", "sklearn.datasets"]
    return run_preloaded(packages, 4, use_fairscale, str(tmp_path_factory.mktemp("fairscale")))


@pytest.mark.parametrize("case", CASES)
def test_trajectories_are_the_same(found: Found, case: str) -> None:
    for run in found:
        assert len(run[case]["apart"]) == (STEPS if case in IN_50_STEPS else FEWER_STEPS)
        assert max(run[case]["apart"]) < 1e-6
        assert run[case]["moved"] > 0.1
    models = [run[case]["model"] for run in found]
    assert not torch.equal(models[0], models[1]) or case == "nodes imitated"  # where ranks 0 and 1 are one node


def test_without_slowmo_they_are_so_in_double_precision(found: Found) -> None:
    assert max(max(run[case]["apart"]) for run in found for case in ("sgp", "localsgd")) < 1e-14


def test_fairscales_first_block_begins_after_the_first_step(found: Found) -> None:
    first, *later = found[0]["as published"]
    assert first < 1e-6, "the average of the first block does not depend on where it began"
    assert min(later) > 1e-3


@pytest.mark.parametrize("case", CONVERTED)
def test_states_are_converted_both_ways(found: Found, case: str) -> None:
    for run in found:
        converted = run["converted"][case]
        assert differences(converted["held"], converted["back"]) == []
        assert len(converted["apart"]) == 2 * FEWER_STEPS
        assert max(converted["apart"]) < 1e-6


def differences(one: Any, other: Any, path: str = "") -> list[tuple[str, float]]:
    """Return where two nested states differ by more than rounding, and by how much, relative to 1 or to the value."""
    if isinstance(one, Tensor):
        assert one.shape == other.shape, path
        apart = (one.double() - other.double()).abs() / one.double().abs().clamp(min=1.0)
        return [(path, apart.max().item())] if one.numel() and apart.max() > 1e-6 else []
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        return [each for key in one for each in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [each for number, (a, b) in pairs for each in differences(a, b, f"{path}/{number}")]
    return [] if one == other else [(f"{path}: {one} and {other}", 1.0)]


def test_what_fairscale_saves_itself_is_a_start(found: Found) -> None:
    assert all(run["checkpoint"] == {"same": True, "step": 7} for run in found)


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_have_the_edges_of_fairscales(found: Found, graph: str) -> None:
    assert all(all(run["graphs"][graph]) for run in found)
    same = all(all(run["graphs"][f"{graph} is the default"]) for run in found)
    assert same == (graph == "NPeerDynamicDirectedExponentialGraph")


def test_scripts_before_and_after(found: Found) -> None:
    for run in found:
        scripts = run["scripts"]
        assert min(scripts["from_ddp_before"], scripts["from_ddp_after"]) > 0.9
        pairs = zip(scripts["from_fairscale_before"], scripts["from_fairscale_after"], strict=True)
        assert max(float((one - other).abs().max()) for one, other in pairs) < 1e-6


def test_defaults_are_fairscales() -> None:
    algorithm = from_arguments(8)["algorithm"]
    assert (algorithm.tau, algorithm.beta, algorithm.alpha, algorithm.buffers) == (48, 0.5, 1.0, "maintain")
    assert (algorithm.exact_average, algorithm.base.period) == (True, 3)
    sgp = from_arguments(8, 2, slowmo_base_algorithm="sgp", slowmo_momentum=0)
    assert sgp["topology"].world_size == 4
    assert (type(sgp["algorithm"]).__name__, sgp["node_size"]) == ("SGP", 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"slowmo_momentun": 0.5}, "did you mean 'slowmo_momentum'"),
        ({"slowmo_base_algorithm": "adpsgd"}, "must be 'sgp' or 'localsgd'"),
        ({"overlap": True}, "osgp"),
        ({"mixing": object()}, "topology"),
        ({"nprocs_per_node": 3}, "nodes of 3"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        from_arguments(8, **arguments)

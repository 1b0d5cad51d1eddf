"""``cluster=simulator``: the experiment of the same workers elsewhere, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from sgp_core.errors import ConfigurationError
from tests.support.command_line import composed
from tests.support.launched import Said

SIMULATOR = ("cluster=simulator", "cluster.workers=8")


def plan(*arguments: str) -> RunPlan:
    return make_plan(composed(*arguments))


def test_it_is_the_same_experiment_in_one_process() -> None:
    virtual, real = plan(*SIMULATOR), plan("cluster.workers_per_node=8")
    assert virtual.run_id == real.run_id
    assert (virtual.world_size, virtual.processes, real.processes) == (8, 1, 8)
    nodes = plan(*SIMULATOR, "cluster.workers_per_node=2", "algorithm.unit=node", "topology=ring")
    assert (
        nodes.run_id
        == plan("cluster.nodes=4", "cluster.workers_per_node=2", "algorithm.unit=node", "topology=ring").run_id
    )


def test_without_a_number_of_its_own_it_has_the_workers_of_a_preset() -> None:
    preset = ("experiment=smoke",)
    assert plan("cluster=simulator", *preset).run_id == plan("cluster=local", *preset).run_id
    assert plan(*SIMULATOR, *preset).world_size == 8


def test_a_clock_makes_it_another_run_of_virtual_workers_alone() -> None:
    clocks = [(), ("computation=constant", "network=ethernet_1g"), ("computation=constant", "network=home_internet")]
    assert len({plan(*SIMULATOR, *clock).run_id for clock in clocks}) == 3
    assert len({plan("cluster=local", *clock).run_id for clock in clocks}) == 1
    assert len({plan(*SIMULATOR, "algorithm=asgp", *clock).run_id for clock in clocks}) == 3


def test_a_clock_of_real_workers_is_said_to_be_without_effect(sgp_train: Callable[..., Said]) -> None:
    clock = ("network=ethernet_1g", "computation=constant", "dry_run=true")
    told = (
        "warning: network=ethernet_1g computation=constant: recorded, without effect on real workers; "
        "the virtual clock is that of cluster=simulator\n"
    )
    for words in (("cluster=local",), ("-m", "seed=1,2")):  # once for a sweep
        said = sgp_train(*words, *clock)
        assert (said.code, said.err) == (0, told)
    for words in (("cluster=local", "dry_run=true"), (*SIMULATOR, *clock)):
        assert sgp_train(*words).err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["network=ethernet_1g"], "computation=constant"),
        (["cluster.workers=9", "cluster.workers_per_node=2", "algorithm.unit=node"], "cannot be divided into nodes"),
        (["cluster.workers=70000"], "at most 65536"),
        (['faults=["kill rank=1 step=2"]'], "faults: with cluster=simulator all workers are one process"),
        (["debug.timeline_steps=3"], "debug.timeline_steps: with cluster=simulator"),
        (["+cluster.elastic=true"], "cluster.elastic is an option of cluster=local or slurm"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plan(*SIMULATOR, *arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)

"""The run id: a hash of what defines the experiment, never of where it runs or logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan
from sgp_core.errors import ConfigurationError
from tests.support.command_line import composed


def plan(*arguments: str) -> RunPlan:
    return make_plan(composed(*arguments))


@pytest.fixture(scope="module")
def usual() -> RunPlan:
    return plan()


def test_run_ids_are_short_and_hexadecimal(usual: RunPlan) -> None:
    assert re.fullmatch("[0-9a-f]{10}", usual.run_id)
    assert usual.run_dir == Path("runs", usual.run_id).absolute()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "log_every=1",
        "runs_dir=other",
        "name=my-run",
        "tracker=none",
        "tracker=mlflow",
        "tracker.group=sweep",
        "evaluation.every_epochs=3",
        "checkpoint.every_steps=7",
        "cluster.device=cpu",
        "cluster.threads_per_worker=1",
        "cluster.transport=p2p",
        "cluster.timeout_min=60",
        "debug.anomaly=true",
        "debug.fail_rank=0",
        'faults=["kill rank=0 step=3"]',
        "training.batch_size=32",
    ],
)
def test_where_a_run_runs_and_what_it_logs_is_not_its_identity(usual: RunPlan, elsewhere: str) -> None:
    assert plan(elsewhere).run_id == usual.run_id


def test_workers_are_counted_however_they_are_placed(usual: RunPlan) -> None:
    assert plan("cluster.nodes=2", "cluster.workers_per_node=2").run_id == usual.run_id


@pytest.mark.parametrize(
    "changed",
    [
        "seed=1",
        "model=cnn",
        "model.hidden=[64]",
        "topology=ring",
        "topology.peers=2",
        "algorithm=allreduce",
        "outer=slowmo",
        "optimizer.lr=0.2",
        "schedule=cosine",
        "training.epochs=11",
        "training.precision=bf16",
        "dataset.augment=true",
        "cluster.workers_per_node=2",
        "algorithm.unit=node",
    ],
)
def test_what_changes_the_numbers_changes_the_identity(usual: RunPlan, changed: str) -> None:
    assert plan(changed).run_id != usual.run_id


ORDERS = {
    "adapt_then_combine": ["atc", "ATC", "adapt-then-combine", "adapt_then_communicate"],
    "adapt_while_communicate": ["awc", "AWC", "combine_while_adapting", "adapt_with_combine"],
}


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_has_one_id_by_all_its_names(order: str) -> None:
    ids = {plan("algorithm=osgp", f"algorithm.order={name}").run_id for name in (order, *ORDERS[order])}
    assert len(ids) == 1
    assert (plan("algorithm=osgp").run_id in ids) == (order == "adapt_while_communicate")


def test_runs_keep_the_ids_that_they_had_while_there_was_one_order(usual: RunPlan) -> None:
    small = "model.hidden=[8] training.epochs=2 training.batch_size=64 cluster.workers_per_node=3 topology=star"
    osgp = f"{small} algorithm=osgp compression=int8 outer=slowmo outer.tau=3".split()
    assert plan(*osgp, "algorithm.order=atc").run_id == "a04e7d31d7"  # of a run of version 0.1
    assert plan(*osgp).run_id != "a04e7d31d7"
    assert plan("algorithm.order=atc").run_id == usual.run_id
    for name in ("sgp", "gossip_pga", "dpsgd", "gradient_tracking"):
        ids = [plan(f"algorithm={name}", *words).run_id for words in ((), ("algorithm.order=atc",))]
        assert ids[0] == ids[1] != plan(f"algorithm={name}", "algorithm.order=awc").run_id
    ahead, late = (plan("algorithm=osgp", f"algorithm.overlap_steps={tau}").run_id for tau in (1, 2))
    assert plan("algorithm=sgp", "algorithm.overlap_steps=1").run_id not in (ahead, late)
    assert plan("algorithm=osgp", "algorithm.overlap_steps=2", "algorithm.order=atc").run_id == late


def test_nodes_that_gossip_are_part_of_the_identity_by_their_size(usual: RunPlan) -> None:
    pairs = plan("algorithm.unit=node", "cluster.nodes=2", "cluster.workers_per_node=2")
    assert pairs.experiment.node_size == 2
    assert len({usual.run_id, pairs.run_id, plan("algorithm.unit=node").run_id}) == 3
    assert pairs.name == "sgp-one_peer_exponential-2x2w-seed0"
    assert plan("algorithm.unit=worker").run_id == usual.run_id
    alone = plan("algorithm.unit=node", "cluster.nodes=4", "cluster.workers_per_node=1")
    assert alone.run_id == usual.run_id, "nodes of one worker are workers"


def test_topologies_connect_the_nodes_where_these_gossip() -> None:
    plan("algorithm.unit=node", "topology=hypercube", "cluster.nodes=4", "cluster.workers_per_node=3")


def test_options_marked_so_are_not_identity(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "picture.jpg").touch()
    images = ["dataset=image_folder", f"dataset.path={tmp_path}"]
    assert plan(*images).run_id == plan(*images, f"dataset.cache={tmp_path}").run_id


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), "sgp-one_peer_exponential-4w-seed0"),
        (("outer=slowmo", "topology=ring", "seed=3", "cluster=inline"), "sgp-slowmo-ring-1w-seed3"),
        (("compression=int8", "outer=slowmo"), "sgp-slowmo-int8-one_peer_exponential-4w-seed0"),
        (("algorithm=local_sgd", "outer=noloco"), "local_sgd-noloco-4w-seed0"),
        (("algorithm=adpsgd", "topology=bipartite_exponential"), "adpsgd-bipartite_exponential-4w-seed0"),
        (("partition=dirichlet",), "sgp-dirichlet-one_peer_exponential-4w-seed0"),
    ],
)
def test_run_names_can_be_read(arguments: tuple[str, ...], name: str) -> None:
    assert plan(*arguments).name == name


def test_a_run_has_the_name_that_its_user_gives() -> None:
    assert plan("name=my-run").name == plan("name=my-run").spec()["name"] == "my-run"


@pytest.mark.parametrize("name", ["", "a/b", "'two\tparts'", "x" * 101])
def test_a_name_that_no_table_could_show_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"name=.* must be 1 to 100 characters on one line"):
        plan(f"name={name}")

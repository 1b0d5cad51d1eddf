"""Bad command lines: a few words that say what would be right, exit code 2, nothing created, nothing started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.launched import Said

MISTAKES: list[tuple[str, str]] = [
    # unknown keys
    ("training.epoch=3", "did you mean 'training.epochs'?"),
    ("traning.epochs=3", "did you mean 'training.epochs'?"),
    ("lr=0.1", "did you mean 'optimizer.lr'?"),
    ("optimizer.momentun=0.5", "did you mean 'optimizer.momentum'?"),
    ("topologgy=ring", "did you mean 'topology=ring'?"),
    ("algorithm=local_sgd algorithm.perod=3", "did you mean 'algorithm.period'?"),
    ("+training.foo=1", "training has no option 'foo'"),
    ("+anything=1", "unknown option 'anything'"),
    ("~nothing", "nothing"),
    ("hydra.rum.dir=x", "hydra.rum.dir is not used: Hydra only reads the command line here"),
    # unknown choices
    ("topology=rng", "did you mean 'ring'?"),
    ("algorithm=spg", "did you mean 'sgp'?"),
    ("outer=slowmoo", "did you mean 'slowmo'?"),
    ("compression=int9", "did you mean 'int8'?"),
    ("model=torchvision model.name=resnet5", "did you mean 'resnet50'?"),
    ("experiment=smoky", "did you mean 'smoke'?"),
    ("cluster=cloud", "unknown cluster 'cloud'"),
    ("topology=null", "'topology=null': a choice is made by its name"),
    ("tracker=tensorbord", "did you mean 'tensorboard'?"),
    ("tracker=[wandb,wandb]", "tracker=[wandb,wandb]: each tracker can be named once"),
    ("tracker=[none,wandb]", "'none' stands alone, as in tracker=none"),
    ("tracker=wandb,mlflow", "or write tracker=[wandb,mlflow] for one list"),
    ("tracker=[null]", "a choice is made by its name"),
    ("model=[mlp,cnn]", "a choice is made by its name"),
    ("tracker.uri=http://h", "tracker.uri is an option of tracker=mlflow, not of tracker=wandb"),
    ("tracker=[wandb,tensorboard] tracker.uri=http://h", "of tracker=mlflow, not of tracker=[wandb,tensorboard]"),
    ("tracker=[wandb,tensorboard] +tracker.colour=red", "tracker has no option 'colour'"),
    ("tracker=mlflow tracker.uri=https://me:pass@h", "tracker.uri would be recorded with its password"),
    ("~algorithm", "a choice cannot be removed; make another: algorithm=NAME; known: adpsgd"),
    # wrong types
    ("training.epochs=ten", "expected a whole number"),
    ("training.epochs=1.5", "expected a whole number"),
    ("training.deterministic=3", "expected true or false"),
    ("optimizer.lr=fast", "expected a number"),
    ("training.precision=fp16", "expected one of fp32, bf16"),
    ("outer=slowmo outer.buffers=forget", "expected one of reset, maintain, average"),
    ("algorithm.unit=nodes", "algorithm.unit=nodes: expected one of worker, node"),
    ("cluster.device=gpu", "expected one of auto, cpu, cuda"),
    ("tracker.mode=sometimes", "expected one of online, offline, disabled or null"),
    ("model.hidden=3", "expected a list"),
    ("training=5", "section"),
    ("seed=null", "expected a whole number"),
    # out of range
    ("seed=-1", "seed"),
    ("training.batch_size=0", "training.batch_size"),
    ("log_every=0", "log_every"),
    ("cluster.workers_per_node=0", "cluster.workers_per_node"),
    ("outer=slowmo outer.beta=2", "beta"),
    ("seed=18446744073709551616", "seed=18446744073709551616: must be at most 18446744073709551615"),
    (
        "-m seed=0,18446744073709551616",
        "point 2 of 2 (seed=18446744073709551616): seed=18446744073709551616: must be",
    ),
    (
        "training.batch_size=1000000000000000000000",
        "training.batch_size=1000000000000000000000: must be at most 92",
    ),
    ("training.batch_size=1e21", "training.batch_size=1e+21: expected a whole number"),
    ("cluster.workers_per_node=100000", "cluster.workers_per_node=100000: must be at most 1024"),
    ("cluster.nodes=2000 cluster.workers_per_node=1000", "2000000 workers are too many: at most 1024 on one machine"),
    ("cluster=slurm cluster.nodes=9999 cluster.workers_per_node=1000", "9999000 workers are too many: at most 65536"),
    ("loader.processes=100000", "loader.processes=100000: must be at most 256"),
    (
        "cluster=slurm cluster.nodes=64 cluster.workers_per_node=1024 topology=erdos_renyi",
        "topology 'erdos_renyi' draws every pair of workers, so at most 4096, not 65536",
    ),
    ("seed=" + "9" * 5000, "99': a number in it has too many digits"),
    ("training=[1]", "training=[1]: a section has no value, but options such as training.epochs"),
    ("evaluation.metrics={a:1}", "evaluation.metrics={a:1}: expected a list [a,b,...]"),
    ("outer=[slowmo]", "'outer=[slowmo]': a choice is made by its name, as in outer="),
    ("evaluation.metrics=[[1]]", "an entry of evaluation.metrics must be a name or {name: ..., option: ...}, not [1]"),
    ("callbacks=[3]", "an entry of callbacks must be a name or {name: ..., option: ...}, not 3"),
    ("optimizer.lr=inf", "optimizer.lr=inf: must be finite"),
    ("optimizer.weight_decay=inf", "optimizer.weight_decay=inf: must be finite"),
    ("cluster=slurm cluster.memory_gb=nan", "cluster.memory_gb=nan: must be finite"),
    ("schedule=step schedule.milestones=[1,-.inf]", "schedule.milestones"),
    ("search=random search.seed=4294967296 -m seed=0,1", "search.seed=4294967296: must be at most 4294967295"),
    # impossible or contradictory
    ("topology=hypercube cluster.workers_per_node=6", "nearest: 4 or 8"),
    ("topology=hypercube algorithm.unit=node cluster.nodes=3", "nearest: 2 or 4"),
    ("algorithm=dpsgd topology=spanning_tree topology.weights=uniform", "dpsgd"),
    ("algorithm=allreduce compression=int8", "and this algorithm has none; use algorithm=sgp, osgp or dpsgd"),
    ("algorithm=asgp compression=int8", "and this algorithm has none; use algorithm=sgp, osgp or dpsgd"),
    ("algorithm.unit=node cluster.nodes=2 algorithm=asgp", "use single workers"),
    ("cluster.elastic=true algorithm.unit=node", "cluster.elastic=true: its workers come and go one by one"),
    ("cluster.elastic=true cluster.workers_per_node=1", "one worker has no others that could go on"),
    ("cluster.elastic=true cluster.transport=p2p", "it has connections of its own; use cluster.transport=auto"),
    ("cluster.elastic=true algorithm=allreduce", "elastic: only PushSum whose step ends with nothing in flight"),
    ("cluster.elastic=true cluster.elastic_patience_s=0.1", "cluster.elastic_patience_s=0.1: must be at least 1"),
    ("cluster=inline cluster.elastic=true", "elastic"),
    ("algorithm=allreduce cluster.step_in_backward=true", "changes gradients before any step"),
    ("algorithm=gradient_tracking cluster.step_in_backward=true", "changes gradients before any step"),
    ("algorithm=qg_dsgdm", "a momentum of its own, beta, so the optimizer must have none; use optimizer=sgd"),
    ("algorithm=decentlam topology=ring optimizer=adamw", "optimizer.momentum=0 optimizer.nesterov=false"),
    ("algorithm=d2", "algorithm 'd2' needs symmetric mixing weights that never change"),
    ("algorithm=decentlam", "algorithm 'decentlam' needs symmetric mixing weights that never change"),
    ("algorithm=d2 topology=ring", "use algorithm.lazy=true"),
    ("algorithm=relaysgd topology=ring", "algorithm 'relaysgd' needs a tree"),
    ("algorithm=relaysgd topology=star outer=slowmo", "use outer 'none'"),
    ("algorithm=gradient_tracking pace.steps=2", "one round of gossip after every step; use pace=every"),
    ("algorithm=gradient_tracking compression=int8", "presumes exact rounds"),
    ("outer=noloco algorithm=osgp algorithm.order=atc", "without PushSum weights, which leave 1 here"),
    ("outer=noloco outer.gamma=2", "gamma must lie in (0, 1.5)"),
    ("algorithm=local_sgd pace=target", "pace 'target': this algorithm has a rhythm of its own"),
    ("algorithm=asgp pace.steps=2", "pace 'every': this algorithm has a rhythm of its own"),
    ("algorithm=osgp algorithm.overlap_steps=2 pace.steps=2", "use overlap_steps=0, or overlap_steps=1 with order="),
    ("algorithm=osgp algorithm.order=atc pace=threshold", "leave after every step; use overlap_steps=0, or"),
    ("algorithm=osgp algorithm.order=adapt_than_combine", "or null; did you mean 'adapt_then_combine'?"),
    ("algorithm=osgp algorithm.order=never", "expected one of adapt_then_combine, adapt_while_communicate or null"),
    ("algorithm=osgp algorithm.overlap_steps=2 algorithm.order=awc", "use overlap_steps=1, or order=adapt_then_"),
    ("algorithm=osgp cluster.step_in_backward=true", "travel until backward is over, and are combined before any step"),
    (
        "algorithm=d2 topology=ring algorithm.order=awc",
        "of algorithm=dpsgd, gossip_pga, gradient_tracking, osgp or sgp, not of algorithm=d2",
    ),
    (
        "algorithm=gradient_tracking algorithm.order=awc topology=star topology.weights=uniform",
        "rows do not; use order=adapt_then_combine, a regular graph, or metropolis weights",
    ),
    ("pace=rounds pace.filter=chebyshev", "pace 'rounds' with filter=chebyshev needs symmetric mixing weights"),
    ("pace=threshold pace.action=peer", "pace.action=peer: expected one of average, round, peers"),
    ("pace=threshold pace.calm=2", "pace 'threshold': calm must be above 0 and at most 1"),
    ("pace=threshold pace.denser={name:ring}", "pace 'threshold': denser is for action=peers"),
    ("pace=threshold pace.action=peers topology=ring", "name a denser one, such as denser={name: exponential}"),
    ("pace=threshold pace.action=peers pace.denser={name:rng}", "denser: unknown topology 'rng'; did you mean 'ring'?"),
    ("pace=threshold pace.action=peers pace.denser={peers:2}", "denser must name a topology"),
    ("pace=threshold pace.action=peers pace.steps=0", "steps must be at least 1, not 0"),
    ("compression=top_k compression.fraction=0", "fraction must be above 0"),
    ("dataset=verses model=transformer partition=dirichlet", "those of dataset 'verses' have none; use partition=iid"),
    ("partition=dirichlet partition.alpha=0", "partition.alpha must be positive, not 0.0"),
    ("partition=label_shards partition.shards=0", "partition.shards must be at least 1, not 0"),
    ("partition=dirichlet partition.shards=2", "is an option of partition=label_shards, not of partition=dirichlet"),
    ("cluster=inline cluster.workers_per_node=2", "cluster=inline is one worker"),
    ("training.accumulation_steps=64", "cannot exceed training.batch_size=32"),
    ("debug.fail_rank=4", "ranks are 0 to 3"),
    ("faults=[kil]", "faults: 'kil': unknown verb 'kil'; did you mean 'kill'?"),
    ("faults=[stall]", "faults: 'stall': stall needs seconds"),
    ("cluster=slurm cluster.timeout_min=1", "cluster.signal_delay_s=120: must be less than cluster.timeout_min=1"),
    ("cluster=slurm cluster.nodes=2 cluster.transport=shared_memory", "for one node, not 2; use hierarchical or p2p"),
    ("cluster=slurm cluster.transport=mixed", "hierarchical is for several nodes of cluster=slurm; use shared_memory"),
    ("cluster.nodes=2 cluster.transport=hierarchical", "hierarchical is for several nodes of cluster=slurm"),
    ("cluster=slurm cluster.nodes=2 cluster.workers_per_node=1 cluster.transport=hierarchical", "not 1; use p2p"),
    (
        "cluster=slurm cluster.nodes=2 cluster.device=cuda cluster.transport=hierarchical",
        "is for cluster.device=cpu, not cuda",
    ),
    ("cluster=slurm cluster.device=cuda cluster.transport=shared_memory", "is for cluster.device=cpu, not cuda"),
    (
        "cluster.device=cpu cluster.transport=symmetric_memory",
        "is for cluster.device=cuda, not cpu; use shared_memory or p2p",
    ),
    ("cluster.transport=share_memory", "unknown transport 'share_memory'; did you mean 'shared_memory'?"),
    ("cluster.transport=carrier", "known: auto, hierarchical, p2p, shared_memory, symmetric_memory"),
    ("cluster.transport=null", "cluster.transport=null: expected text"),
    (
        "algorithm.unit=node cluster.nodes=2 cluster.transport=shared_memory",
        "algorithm.unit=worker, not node; use p2p",
    ),
    ("cluster=slurm cluster.nodes=2 cluster.transport=symmetric_memory", "symmetric_memory is for one node, not 2"),
    ("cluster=slurm cluster.device=cuda cluster.gpus_per_node=1", "needs one for each of 4 workers"),
    ("cluster=slurm cluster.cpus_per_worker=0", "cluster.cpus_per_worker=0: must be at least 1"),
    ("cluster.slots=0", "cluster.slots=0: must be at least 1"),
    # missing or bad files
    ("dataset=cifar10 dataset.path=nowhere", "dataset.download=true"),
    ("dataset=image_folder", "dataset.path"),
    ("dataset=image_folder dataset.path=nowhere", "does not exist"),
    ("topology=custom topology.path=nowhere.graphml", "does not exist"),
    ("runs_dir=/dev/null", "is a file"),
    # grammar and flags
    ("training.epochs={", "cannot read 'training.epochs={'"),
    ("training.epochs", "'training.epochs' needs a value; write training.epochs=10"),
    ("seed=0,1", "add -m"),
    ("runs_dir=${nowhere}", "runs_dir=${nowhere}: there is no setting 'nowhere'"),
    ("name=${oc.decode:'['}", "name=${oc.decode:'['}: what stands in ${...} cannot be found"),
    ("name=${oc.env:NO_SUCH}", "cannot be found: Environment variable 'NO_SUCH' not found"),
    ("optimizer.lr=\\${seed}", "optimizer.lr=${seed}: expected a number"),
    ("name='\\${x}/y'", "name='${x}/y': must be 1 to 100 characters"),
    ("tracker.notes=Größe", """'ö' stands only in quotes: 'tracker.notes="Größe"'"""),
    ("runs_dir=~/x", """'~' stands only in quotes: 'runs_dir="~/x"'"""),
    ("+seed=3", "leave out the '+'"),
    ("--workers 4", "unknown option '--workers'; workers are cluster.nodes x cluster.workers_per_node"),
    ("--cfg", "expected one argument"),
    ("--config-dir nowhere", "not found"),
    # sweeps: no point runs if one is wrong
    ("-m seed=0,1,two,3", "point 3 of 4 (seed=two): seed=two: expected a whole number"),
    ("-m seed=0,1 dry_run=true,false", "dry_run holds for the whole command"),
    ("-m search=tpe seed=0", "something to search over"),
    ("-m topology=ring,rng", "did you mean 'ring'?"),
    ("-m seed=range(1,1e9)", "seed=range(1,1e9): 999999999 runs are too many; at most 10000"),
    ("-m seed=range(0,100) training.epochs=range(1,1000)", "99900 runs are too many; at most 10000"),
    ("-m optimizer.lr=range(0,1,0)", "optimizer.lr=range(0,1,0): its step is 0"),
    ("-m seed=range(0,inf)", "seed=range(0,inf): must be finite"),
    ("-m search=random optimizer.lr=range(0,1,0)", "optimizer.lr=range(0,1,0): its step is 0"),
    ("-m search=random seed=range(1,1e9)", "seed=range(1,1e9): 999999999 values are too many; at most 1000"),
    ("-m search=random optimizer.lr=interval(0.1,inf)", "optimizer.lr=interval(0.1,inf): must be finite"),
    ("-m topology=ring,hypercube cluster.workers_per_node=6", "point 2 of 2 (topology=hypercube"),
]


@pytest.mark.parametrize(("command", "hint"), MISTAKES, ids=[command[:60] for command, _ in MISTAKES])
def test_mistakes_are_explained_and_leave_nothing(
    command: str, hint: str, here: Path, sgp_train: Callable[..., Said]
) -> None:
    said = sgp_train(*command.split())
    assert said.code == 2
    assert hint in said.err
    assert len(said.err.splitlines()) <= 5
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list(here.iterdir()) == []
    assert list((here.parent / "scratch").iterdir()) == []


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launcher.cli.train", "topology=rng"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("sgp-train: unknown topology 'rng'; did you mean 'ring'?")
    assert len(said.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_hydra_shows_the_whole_error_to_who_asks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import MissingConfigException

    from launcher.cli.train import main

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(MissingConfigException):
        main(["topology=rng"])

"""Words from elsewhere, and words that Hydra takes for something else: one sentence says what to write here.

Options of other choices, and choices of other groups, are found in the registries; ``launcher/config/synonyms.py``
lists what cannot be found there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.config.hints import owners
from launcher.config.hydra_errors import find_known_settings
from launcher.config.schema import choices
from launcher.config.synonyms import CHOICES, SETTINGS
from tests.support.launched import Said

SETTINGS_OF_OTHERS = [
    ("optimizer.learning_rate=0.1", "unknown option 'optimizer.learning_rate'; did you mean 'optimizer.lr'?"),
    ("cluster.workers=8", "cluster.nodes x cluster.workers_per_node: cluster.workers_per_node=8"),
    ("world_size=8", "cluster.nodes x cluster.workers_per_node: cluster.workers_per_node=8"),
    ("checkpoint.path=out", "runs_dir says where run folders are made"),
]
OPTIONS_OF_OTHER_CHOICES = [
    ("outer.beta=0.5", "outer.beta is an option of outer=slowmo, not of outer=none"),
    ("algorithm.period=4", "is an option of algorithm=gossip_pga or local_sgd, not of algorithm=sgp"),
    (
        "topology=ring topology.peers=2",
        "base_k, directed_linear, one_peer_exponential or regions, not of topology=ring",
    ),
]
CHOICES_OF_OTHERS = [
    ("algorithm=SGP", "unknown algorithm 'SGP'; did you mean 'sgp'?"),
    ("model=resnet50", "unknown model 'resnet50'; write model=torchvision model.name=resnet50"),
    ("model=vgg16_bn", "write model=torchvision model.name=vgg16_bn"),
    ("algorithm=sgp,dpsgd", "add -m"),
]
HYDRAS = [
    ("hydra/launcher=submitit_slurm", "cluster=slurm submits to SLURM"),
    ("hydra.launcher.partition=gpu", "write cluster=slurm cluster.partition=gpu"),
    ("hydra.run.dir=out", "runs_dir says where they are made"),
    ("hydra.sweep.dir=out", "runs_dir says where they are made"),
    ("hydra.sweep.subdir=out", "runs_dir says where they are made"),
    ("hydra.job.name=first", "hydra.job.name is not used: "),
]
FLAGS = [
    ("--lr=0.1", "settings are written without dashes: optimizer.lr=0.1"),
    ("--epochs 3", "settings are written without dashes: training.epochs=3"),
    ("--dry-run", "settings are written without dashes: dry_run=true"),
    ("dry_run", "'dry_run' needs a value; write dry_run=true"),
]
WITHOUT_EFFECT = [
    ("optimizer.lr=interval(0.01,0.1)", "search=tpe"),
    ("-m optimizer.lr=interval(0.01,0.1)", "search=tpe"),
    ("~optimizer.momentum", "set it, as in optimizer.momentum=0"),
    ("-m optimizer.lr=glob(*)", "glob() is for choices, as in topology=glob(*ring)"),
]

INVENTED = [
    # from other trainers and launchers
    ("bs=64", "did you mean 'training.batch_size'?"),
    ("lr_scheduler=cosine", "did you mean 'schedule=cosine'?"),
    ("num_workers=4", "batches are made by loader.processes, and training workers are cluster.nodes x"),
    ("gpus=4", "a GPU where there are enough: cluster.workers_per_node=4 cluster.device=cuda"),
    ("wandb=false", "tracker=none writes files alone"),
    ("wandb.project=x", "did you mean 'tracker.project'?"),
    ("tracker.name=first", "tracker.name=first: write name=first"),
    ("output_dir=out", "runs_dir says where run folders are made"),
    ("--resume", "an interrupted run goes on by the same command, or by sgp resume RUN"),
    ("--nproc_per_node=4", "settings are written without dashes: cluster.workers_per_node=4"),
    ("--epochs=3 --lr 0.1", "without dashes: training.epochs=3 optimizer.lr=0.1"),
    ("-lr 0.1", "settings are written without dashes: optimizer.lr=0.1"),
    ("-n 4", "unknown option '-n'; workers are cluster.nodes x"),
    ("--config my.yaml", "chosen by --config-dir FOLDER experiment=NAME"),
    ("my.yaml", "'my.yaml': settings of your own are chosen by --config-dir FOLDER experiment=NAME"),
    ("train.py", "'train.py': code of your own is named by plugins=[train.py]"),
    # without "=", or with spaces around it
    ("epochs 3", "'epochs' needs a value; write training.epochs=3"),
    ("epochs: 3", "'epochs:' needs a value; write training.epochs=3"),
    ("optimizer.lr = 0.1", "write optimizer.lr=0.1, without a space"),
    ("optimizer.lr= 0.1", "write optimizer.lr=0.1, without a space"),
    ("osgp", "'osgp': did you mean 'algorithm=osgp'?"),
    ("topology ring", "'topology' needs a value; write topology=ring"),
    ("runs --state failed", "'runs' is a command of sgp: sgp runs --state failed"),
    # choices under other names, of other groups, in other letters
    ("algorithm=fedavg", "did you mean 'local_sgd'?"),
    ("algorithm=slowmo", "there is outer=slowmo"),
    ("topology=fully_connected", "did you mean 'complete'?"),
    ("topology=one-peer-exponential", "did you mean 'one_peer_exponential'?"),
    ("topology.name=ring", "a choice is made by topology=ring, which brings its options"),
    ("model.name=resnet50", "write model=torchvision model.name=resnet50"),
    ("cluster=gpu", "did you mean 'cluster.device=cuda'?"),
    ("slowmo=true", "did you mean 'outer=slowmo'?"),
    ("tau=4", "did you mean 'outer.tau' of outer=bmuf, diloco, noloco or slowmo?"),
    ("experiment=sgp", "did you mean 'wmt16_sgp' or 'cifar10_sgp'"),
    ("debug=true", "a choice is made by its name, as in debug=default"),
    ("schedule.warmup_epochs=2", "is an option of schedule=cosine, step or warmup_stable_decay, not of"),
    ("optimizer.LR=0.1", "did you mean 'optimizer.lr'?"),
    ("order=awc", "did you mean 'algorithm.order'?"),
    ("algorithm=awc", "did you mean 'algorithm.order=adapt_while_communicate'?"),
    ("algorithm=adapt-with-combine", "did you mean 'algorithm.order=adapt_while_communicate'?"),
    ("atc_style=true", "algorithm.order=atc or awc"),
    # values
    ("seed=[0,1]", "several values make a sweep: -m seed=0,1"),
    ("callbacks=early_stopping", "write callbacks=[early_stopping]"),
    ("training.epochs=3,", "nothing follows the comma"),
    ("model.hidden=[64 64]", "lists are written without spaces, as in [1,2]"),
    ("tracker.notes=it's", "put the value in double quotes"),
    ("seed=0-3", "-m seed=range(0,4)"),
    ("-m seed=0;1", "several values are joined by commas: -m seed=0,1"),
    ("-m seed=0 1 2", "several values are joined by commas: seed=0,1"),
    ("-m optimizer.lr=loguniform(1e-4,1e-1)", "there is no loguniform(); a search takes interval(low,high)"),
    ("\u2013m seed=0,1", "begins with a long dash; type hyphens: -m"),
    ("optimizer.lr:0.1", "write optimizer.lr=0.1"),
    ("optimizer/lr=0.1", "did you mean 'optimizer.lr'?"),
    ("checkpoint.every=100", "did you mean 'checkpoint.every_steps'?"),
    ("checkpoint=none", "a section has no value, but options such as checkpoint.every_steps"),
    ("+optimizer.learning_rate=0.1", "optimizer has no option 'learning_rate'; did you mean 'optimizer.lr'?"),
    ("--versoin", "unknown flag '--versoin'; did you mean '--version'?"),
    # without effect
    ("-m seed=range(0,0)", "'seed=range(0,0)' stands for no value"),
    ("~tracker", "make another: tracker=none"),
    ("~seed", "would leave the option at its default; set it, as in seed=VALUE"),
    ("hydra.sweeper.n_trials=20", "the number of runs of a search is search.trials"),
    ("hydra.launcher.mem_gb=32", "write cluster=slurm cluster.memory_gb=32"),
]
"""Wrong lines that the issue of these messages did not name."""


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        *SETTINGS_OF_OTHERS,
        *OPTIONS_OF_OTHER_CHOICES,
        *CHOICES_OF_OTHERS,
        *HYDRAS,
        *FLAGS,
        *WITHOUT_EFFECT,
        *INVENTED,
    ],
    ids=lambda value: value,
)
def test_one_sentence_says_what_to_write(line: str, hint: str, here: Path, sgp_train: Callable[..., Said]) -> None:
    said = sgp_train(*line.split())
    assert hint in said.err
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert list(here.iterdir()) == []
    assert list((here.parent / "scratch").iterdir()) == []


def test_tables_name_what_there_is() -> None:
    known = find_known_settings([])
    plain = {meaning for meaning in SETTINGS.values() if " " not in meaning and "=" not in meaning}
    assert [name for name in plain if name not in known.values and not owners(*name.rpartition(".")[::2])] == []
    made = [(group, name) for group, names in CHOICES.items() for name in names.values() if not {" ", "="} & {*name}]
    assert [f"{group}={name}" for group, name in made if name not in choices(group)] == []

"""Words that users bring from elsewhere, and what they are called here: tables, and the way to look a word up.

Options of other choices and mistyped names need no table: see :mod:`launcher.config.hints`.
"""

from __future__ import annotations

from collections.abc import Mapping

WORKERS = "workers are cluster.nodes x cluster.workers_per_node: cluster.workers_per_node={value}"
FOLDER = "checkpoints and results are in the run's folder: runs_dir says where run folders are made"
RESUME = "an interrupted run goes on by the same command, or by sgp resume RUN"


def _by_alias(table: Mapping[str, str]) -> dict[str, str]:
    """Return what each alias means, of a table that lists the aliases of each meaning."""
    return {alias: meaning for meaning, aliases in table.items() for alias in aliases.split()}


SETTINGS = _by_alias(
    {
        "optimizer.lr": "learning_rate base_lr max_lr init_lr peak_lr",
        "optimizer.weight_decay": "wd l2",
        "optimizer": "opt optim",
        "Adam has optimizer.beta1 and optimizer.beta2": "betas adam_betas",
        "schedule": "scheduler lr_scheduler lr_schedule lr_policy",
        "training.epochs": "max_epochs num_epochs n_epochs nepochs num_train_epochs passes e",
        "training.max_steps": "steps iterations iters max_iters num_steps n_steps max_iterations train_steps",
        "training.batch_size": "b bs batch batchsize train_batch_size per_device_train_batch_size micro_batch_size",
        "training.batch_size is that of each worker: training.batch_size={value}": "global_batch_size total_batch_size",
        "training.clip_norm": "clip grad_clip clip_grad max_grad_norm gradient_clip_val clip_grad_norm max_norm",
        "training.accumulation_steps": "accumulate_grad_batches gradient_accumulation_steps grad_accum accum_steps",
        "mixed precision is training.precision=bf16": "amp fp16 bf16 mixed_precision half use_amp dtype autocast",
        "training.compile=blocks compiles the model": "torch_compile use_compile",
        "training.label_smoothing": "smoothing",
        "seed": "random_seed manual_seed rng_seed",
        WORKERS: "workers cluster.workers world_size n_workers nproc nprocs num_procs n_proc ranks num_ranks np n",
        "cluster.workers_per_node": "nproc_per_node ntasks_per_node tasks_per_node workers_per_host ppn",
        "cluster.nodes": "nnodes num_nodes n_nodes hosts",
        "batches are made by loader.processes, and training workers are cluster.nodes x cluster.workers_per_node": (
            "num_workers"
        ),
        "loader.processes": "j data_workers loader.workers dataloader_num_workers dataset.num_workers",
        "loader.ahead": "prefetch prefetch_factor",
        "every worker takes a GPU where there are enough: cluster.workers_per_node={value} cluster.device=cuda": (
            "gpu gpus n_gpus ngpus num_gpus gpus_per_node devices gpu_ids"
        ),
        "cluster.device": "accelerator cuda",
        "cluster.threads_per_worker": "threads num_threads n_threads omp_num_threads",
        "cluster.transport": "backend dist_backend communication",
        "cluster.timeout_min": "time time_limit walltime timeout max_time",
        "with cluster=slurm it is cluster.memory_gb={value}": "mem mem_gb memory",
        "with cluster=slurm it is cluster.partition={value}": "queue slurm_partition",
        "dataset.path": "data_dir data_path datadir data_root root dataset_dir train_dir",
        "dataset": "data dataset_name",
        "model": "a arch model_name backbone net",
        "topology": "graph graph_type graph_class",
        "topology.peers": "peers_per_itr num_peers degree",
        "algorithm.overlap_steps": "overlap synch_freq staleness",
        "algorithm.order": "step_order communication_order combine_order update_order",
        "algorithm.order=atc or awc": "atc awc atc_style awc_style adapt_then_combine adapt_while_communicate",
        "algorithm=allreduce is what DDP does": "ddp all_reduce",
        "algorithm=local_sgd has algorithm.period, and pace.steps is that of gossip": (
            "local_steps sync_every sync_freq gossip_every communication_period comm_every"
        ),
        "compression": "compressor quantization quantize codec",
        "callbacks=[early_stopping] ends a run early": "early_stopping patience",
        "checkpoint.every_steps": "save_steps save_every save_freq save_interval",
        "evaluation.every_epochs": "eval_every eval_freq val_every val_freq check_val_every_n_epoch",
        "evaluation.every_steps": "eval_steps eval_interval val_interval val_check_interval val_loss_every",
        "log_every": "log_interval print_freq log_freq logging_steps log_every_n_steps print_every",
        FOLDER: (
            "checkpoint.path checkpoint.dir checkpoint.folder checkpoint_dir checkpoints ckpt_dir ckpt_path save_dir"
            " save_path output_dir out_dir output out log_dir logdir work_dir workdir results_dir save"
        ),
        RESUME: "resume resume_from restore load resume_from_checkpoint",
        "name": "run_name exp_name experiment_name tracker.name job_name",
        "model.weights": "pretrained init_from pretrained_weights",
        "tracker": "logger tracking report_to",
        "tracker=wandb is the default, tracker=none writes files alone": "wandb use_wandb",
        "settings of your own are chosen by --config-dir FOLDER experiment=NAME": "config config_file conf cfg yaml",
        "debug=timeline records what every worker does when": "profile profiler trace",
        "sgp logs RUN shows what every worker says": "verbose v quiet log_level loglevel",
        "dry_run": "dryrun test_only",
        "a sweep is -m with several values, as in -m seed=0,1": "sweep multi_run multirun",
        "commands of sgp print JSON, as in sgp status RUN --json": "json",
        "any option of sbatch may stand in cluster.additional_parameters={reservation:tutorial}": (
            "gres reservation nodelist licenses dependency begin export"
        ),
        "rerun=all": "overwrite force restart fresh",
    }
)
"""What a setting of another program is here: a setting's name, or a clause with the words to write."""

CHOICES: dict[str, dict[str, str]] = {
    "algorithm": _by_alias(
        {
            "allreduce": "ddp ar sync_sgd synchronous all_reduce_sgd",
            "local_sgd": "fedavg local periodic_averaging post_local_sgd",
            "sgp": "push_sum pushsum stochastic_gradient_push gossip",
            "osgp": "overlap_sgp sgp_overlap",
            "dpsgd": "dsgd decentralized_sgd decentralised_sgd",
            "algorithm.order=adapt_then_combine": "atc adapt_then_combine atc_dsgd",
            "algorithm.order=adapt_while_communicate": "awc adapt_while_communicate adapt_with_combine awc_dsgd",
            "adpsgd": "asynchronous",
            "gradient_tracking": "gt dsgt",
        }
    ),
    "topology": _by_alias(
        {
            "complete": "full fully_connected clique all_to_all",
            "exponential": "exp static_exponential",
            "one_peer_exponential": "one_peer_exp onepeer one_peer dynamic_exponential",
            "torus": "grid mesh",
            "spanning_tree": "tree line chain path",
            "erdos_renyi": "random er",
            "random_matching": "matching",
        }
    ),
    "cluster": _by_alias(
        {
            "slurm": "submitit submitit_slurm sbatch srun",
            "inline": "single none one debug",
            "simulator": "simulate simulated simulation sim virtual",
            "cluster.device=cuda": "gpu gpus cuda",
            "cluster.device=cpu": "cpu",
        }
    ),
    "tracker": _by_alias({"wandb": "wb weights_and_biases", "none": "off no disabled jsonl"}),
    "schedule": _by_alias(
        {
            "constant": "none fixed",
            "step": "multistep multi_step step_lr",
            "cosine": "cosine_annealing cosine_annealing_lr onecycle",
            "inverse_square_root": "noam inverse_sqrt invsqrt",
            "warmup_stable_decay": "wsd trapezoidal trapezoid cooldown",
        }
    ),
    "compression": _by_alias(
        {
            "int8": "8bit quantize qsgd",
            "int4": "4bit fp4 e3m0",
            "low_rank": "powersgd powergossip",
            "sign": "1bit onebit signsgd",
            "bf16": "bfloat16",
            "fp16": "half float16",
        }
    ),
    "partition": _by_alias({"dirichlet": "non_iid noniid heterogeneous label_skew", "iid": "none uniform"}),
    "search": _by_alias({"tpe": "optuna bayes bayesian", "-m alone tries every combination": "grid"}),
    "outer": _by_alias({"none": "off no", "slowmo": "slow_momentum"}),
    "dataset": _by_alias({"fashion_mnist": "mnist", "image_folder": "imagefolder folder"}),
}
"""What a choice is called elsewhere, by group; or the setting that it is here."""

SUBMITIT = {
    "mem_gb": "memory_gb",
    "tasks_per_node": "workers_per_node",
    "cpus_per_task": "cpus_per_worker",
    "max_num_timeout": "timeout_min",
    "timeout": "timeout_min",
}
"""Options of Hydra's submitit launcher whose names differ from those of ``cluster``."""

HYDRA = {
    "hydra/launcher": "cluster=slurm submits to SLURM, cluster=local starts workers on this machine",
    "hydra/sweeper": "search=tpe or search=random chooses the points of a sweep",
    "hydra.launcher": "cluster=slurm has options of its own; see sgp-train --help cluster=slurm",
    "hydra.sweeper.n_trials": "the number of runs of a search is search.trials",
    "hydra.sweeper.n_jobs": "the runs of a search at a time are search.parallel",
    "hydra.sweeper": "search=tpe or search=random chooses the points of a sweep; see sgp-train --help search=tpe",
    "hydra.run": "run folders are named by run id, and runs_dir says where they are made",
    "hydra.sweep": "run folders are named by run id, and runs_dir says where they are made",
    "hydra.output_subdir": "every run's settings are in spec.json of its folder",
    "hydra.job.name": "a run is named by name=NAME",
    "hydra.job.chdir": "workers stay in the directory of the command",
    "hydra.verbose": "sgp logs RUN shows what every worker says",
    "hydra": "Hydra only reads the command line here",
}
"""What stands in the place of Hydra's own settings; the longest name that fits counts."""

HYDRA_IN_USE = ("hydra.mode", "hydra.searchpath")
"""Settings of Hydra's that work."""


def fold(word: str) -> str:
    """Return a word as tables have it: small letters, underscores, dots."""
    return word.lower().replace("-", "_").replace("/", ".").lstrip("_")


def find_setting(key: str) -> str | None:
    """Return what a setting of another program is here, by its whole name, else by what follows the last dot."""
    folded = fold(key)
    return SETTINGS.get(folded) or SETTINGS.get(folded.rpartition(".")[2])


def find_hydra(name: str) -> str:
    """Return what stands in the place of one of Hydra's settings."""
    fitting = [known for known in HYDRA if name == known or name.startswith((f"{known}.", f"{known}/", f"{known}@"))]
    return HYDRA[max(fitting, key=len, default="hydra")]

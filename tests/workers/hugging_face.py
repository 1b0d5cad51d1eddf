"""What real workers do in tests/integrations/test_transformers.py."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.errors import ConfigurationError
from tests.docs.pages import EXAMPLES

STEPS, HALF = 8, 4
GOSSIPS: dict[str, dict[str, Any]] = {
    "sgp": {"algorithm": "sgp", "topology": {"name": "star", "weights": "uniform"}},  # PushSum weights other than 1
    "osgp": {"algorithm": "osgp", "topology": "ring", "outer": {"name": "slowmo", "tau": 3, "beta": 0.5}},
    "overlapped": {"algorithm": {"name": "osgp", "overlap_steps": 2}, "topology": "one_peer_exponential"},
}


def set_environment() -> None:
    """Say what torchrun says."""
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, HF_HUB_OFFLINE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")


def build_model(dropout: float = 0.1) -> Any:
    """Return a GPT-2 of 6,000 parameters, and one buffer that each worker changes in every forward."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(1)
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    sizes = {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **rates, bos_token_id=None, eos_token_id=None))
    model.register_buffer("seen", torch.zeros(1))
    model.register_forward_hook(_count)
    return model


def _count(model: Any, inputs: Any, outputs: Any) -> None:
    if model.training:
        model.seen += dist.get_rank() + 1.0


def build_data(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Return rows of tokens that repeat themselves; of some, part of the labels does not count."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for row in range(count):
        tokens = torch.randint(32, (4,), generator=generator).repeat(4)
        labels = tokens.clone()
        labels[: 3 * (row % 5)] = -100
        rows.append({"input_ids": tokens, "labels": labels})
    return rows


def train(kind: Any, folder: str, *, resume: Any = None, model: Any = None, callbacks: Any = (), **options: Any) -> Any:
    """Train, and return the trainer."""
    from transformers import TrainingArguments

    own = {name: options.pop(name) for name in ("gossip", "compute_metrics") if name in options}
    choices = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.5,
        "learning_rate": 1e-2,
        "save_steps": HALF,
        "eval_steps": HALF,
        "eval_strategy": "steps",
        "logging_steps": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **options,
    }
    trainer = kind(
        model=build_model() if model is None else model,
        args=TrainingArguments(output_dir=folder, **choices),
        train_dataset=build_data(40, 1),  # 5 batches of each worker: 3 steps, the last of which is of a single batch
        eval_dataset=build_data(22, 2),
        callbacks=list(callbacks),
        **own,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of what the model holds."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def act_as_ddp_does(folder: str) -> dict[str, Any]:
    """Train with DistributedDataParallel, and with allreduce in its place."""
    from transformers import Trainer

    from sgp_core.integrations.transformers import GossipTrainer

    # The gradient of the keys' bias is zero but for rounding, which AdamW would make as large as any other.
    options = {"save_strategy": "no", "adam_epsilon": 1e-4}
    ddp = train(Trainer, f"{folder}/ddp", model=build_model(0.0), **options)
    assert type(ddp.model_wrapped).__name__ == "DistributedDataParallel"
    ours = train(GossipTrainer, f"{folder}/allreduce", model=build_model(0.0), gossip="allreduce", **options)
    return {
        "weights": [weights_of(ddp.model), weights_of(ours.model)],
        "history": [ddp.state.log_history, ours.state.log_history],
    }


def stop_and_resume(folder: str, name: str) -> dict[str, Any]:
    """Train in one go; then begin anew from the checkpoint in the middle."""
    from sgp_core.integrations.transformers import GossipTrainer

    whole = train(GossipTrainer, f"{folder}/{name}", gossip=GOSSIPS[name])
    middle = f"{folder}/{name}/checkpoint-{HALF}"
    again = train(GossipTrainer, f"{folder}/{name}-again", gossip=GOSSIPS[name], resume=middle)
    kept = weights_of(whole.model)
    alone = whole.evaluate()["eval_loss"]
    whole.save_model(f"{folder}/{name}-final")
    assert whole.gossip is not None
    return {
        "history": whole.state.log_history,
        "history again": again.state.log_history,
        "final loss": alone,
        "weights": kept,
        "step": whole.gossip.step,
        "push_sum_weight": whole.gossip.push_sum_weight,
        "bytes": whole.gossip.bytes_sent,
    }


def stop_together(folder: str) -> dict[str, Any]:
    """Ask one worker alone to save and stop, as a SIGTERM does that has reached it first."""
    from transformers import TrainerCallback

    from sgp_core.integrations.transformers import GossipTrainer, last_complete_checkpoint

    class Ask(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if dist.get_rank() == 1 and state.global_step == 2:
                trainers[0].on_sigterm.jit_manager.is_checkpoint_requested = True

    trainers: list[Any] = []

    class Kept(GossipTrainer):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            trainers.append(self)

    before = signal.getsignal(signal.SIGTERM)
    options = {
        "enable_jit_checkpoint": True,
        "callbacks": [Ask()],
        "gossip": {"algorithm": "dpsgd", "topology": "ring"},
        "eval_strategy": "no",
    }
    stopped = train(Kept, f"{folder}/stopped", **options)
    dist.barrier()
    return {
        "step": stopped.state.global_step,
        "last": last_complete_checkpoint(f"{folder}/stopped"),
        "handler": signal.getsignal(signal.SIGTERM) is before,
    }


def choose_the_best(folder: str) -> dict[str, Any]:
    """Evaluate before training, train, load the best model, and train on."""
    from sgp_core.integrations.transformers import GossipTrainer

    def unknown(*_: Any) -> dict[str, float]:
        losses.append(len(losses))
        return {"badness": losses[-1]}  # the first evaluation is the best

    losses: list[int] = []
    options = {"load_best_model_at_end": True, "metric_for_best_model": "badness", "greater_is_better": False}
    best = train(
        GossipTrainer,
        f"{folder}/best",
        gossip={"algorithm": "dpsgd", "topology": "ring"},
        compute_metrics=unknown,
        **options,
    )
    weights = weights_of(best.model)
    best.args.max_steps = 2
    best.train()
    return {"weights": weights, "chosen": best.state.best_model_checkpoint, "trained on": weights_of(best.model)}


def step_otherwise(folder: str) -> dict[str, Any]:
    """Train with steps inside backward, which must come to the same; and in bf16."""
    from accelerate.test_utils.testing import AccelerateTestCase

    from sgp_core.integrations.transformers import GossipTrainer

    forget = AccelerateTestCase().tearDown  # accelerate allows one precision in a process
    graph = {"algorithm": "sgp", "topology": "ring"}
    options = {"save_strategy": "no", "eval_strategy": "no", "max_steps": 2}
    found = {
        "plain": train(GossipTrainer, f"{folder}/plain", gossip=graph, **options),
        "backward": train(GossipTrainer, f"{folder}/backward", gossip={**graph, "step_in_backward": True}, **options),
    }
    forget()
    found["bf16"] = train(GossipTrainer, f"{folder}/bf16", gossip=graph, bf16=True, **options)
    forget()
    return {
        "weights": {name: weights_of(trainer.model) for name, trainer in found.items()},
        "history": {name: trainer.state.log_history for name, trainer in found.items()},
    }


def change_trainers(folder: str) -> dict[str, Any]:
    """Go on from a checkpoint of Hugging Face's Trainer by gossip, the other way round, and with another rule."""
    from transformers import Trainer

    from sgp_core.integrations.transformers import GossipTrainer

    theirs = train(Trainer, f"{folder}/theirs", max_steps=HALF, eval_strategy="no")
    middle = f"{folder}/theirs/checkpoint-{HALF}"
    ours = train(GossipTrainer, f"{folder}/ours", gossip={"algorithm": "dpsgd", "topology": "ring"}, resume=middle)
    back = train(Trainer, f"{folder}/back", resume=f"{folder}/sgp/checkpoint-{HALF}")
    other, middle = {"algorithm": "dpsgd", "topology": "ring"}, f"{folder}/sgp/checkpoint-{HALF}"
    with pytest.raises(ConfigurationError) as refused:
        train(GossipTrainer, f"{folder}/refused", gossip=other, resume=middle)
    reshaped = train(GossipTrainer, f"{folder}/reshaped", gossip={**other, "reshape": True}, resume=middle)
    return {
        "steps": [each.state.global_step for each in (theirs, ours, back, reshaped)],
        "history": ours.state.log_history,
        "reshaped": reshaped.state.log_history,
        "refused": str(refused.value),
    }


def wrap_in_ddp(folder: str) -> dict[str, str]:
    """Give gossip what something else averages already; return what is said."""
    from accelerate import Accelerator
    from torch.nn.parallel import DistributedDataParallel

    import sgp_core
    from sgp_core.integrations.transformers import GossipTrainer

    said = {}
    with pytest.raises(ConfigurationError) as refused:
        train(GossipTrainer, f"{folder}/wrapped", model=DistributedDataParallel(build_model()), gossip="sgp")
    said["wrapped before"] = str(refused.value)
    model = build_model()
    prepared, optimizer = Accelerator().prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ConfigurationError) as refused:
        sgp_core.Gossip(prepared, optimizer.optimizer, algorithm="sgp")
    said["prepared before"] = str(refused.value)
    gossip = sgp_core.Gossip(model, optimizer.optimizer, algorithm="sgp")
    model(**{name: row[None] for name, row in build_data(1, 1)[0].items()}).loss.backward()
    with pytest.raises(ConfigurationError) as refused:
        optimizer.step()
    said["prepared after"] = str(refused.value)
    gossip.close()
    return said


def run_the_loop(folder: str) -> dict[str, Any]:
    """Run docs/examples/hugging_face_accelerate.py in one go, and stopped after half."""
    before, said = sys.argv, []
    for name, steps in (("whole", 4), ("halves", 2), ("halves", 4)):
        sys.argv = ["hugging_face_accelerate.py", f"{folder}/loop-{name}", str(steps)]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            names = runpy.run_path(str(EXAMPLES / sys.argv[0]), run_name="__main__")
        said.append(out.getvalue())
        names["accelerator"].free_memory()
        dist.barrier()  # else one could look for the folder that another is still to write
    sys.argv = before
    return {"said": said}


def use_the_trainer(folder: str) -> dict[str, Any]:
    """Do all of it, one after the other, in the same workers."""
    set_environment()
    found = {"ddp": act_as_ddp_does(folder), **{name: stop_and_resume(folder, name) for name in GOSSIPS}}
    for act in (stop_together, choose_the_best, step_otherwise, change_trainers, wrap_in_ddp, run_the_loop):
        found[act.__name__] = act(folder)
    return found

"""What real workers do with Lightning, see tests/workers/lightning.py."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors import signal_connector
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from sgp_core.integrations.lightning import GossipStrategy
from tests.docs.pages import EXAMPLES
from tests.workers.lightning import EPOCHS, GOSSIPS, HALF


class Processes(SLURMEnvironment):
    """The workers of a test, which share a process group already, as those that SLURM has started."""

    def __init__(self, auto_requeue: bool = False) -> None:
        self.auto_requeue = auto_requeue
        self.requeue_signal = signal.SIGUSR1

    def world_size(self) -> int:
        return dist.get_world_size()

    def global_rank(self) -> int:
        return dist.get_rank()

    def local_rank(self) -> int:
        return dist.get_rank()

    def node_rank(self) -> int:
        return 0


class Regression(LightningModule):
    """Two layers with dropout and BatchNorm."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.net.double()
        self.validated: list[Tensor] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.validated.append(everything(self.net))
        self.log("score", (self.net(batch[0]) - batch[1]).square().mean(), sync_dist=True)

    test_step = validation_step

    def predict_step(self, batch: list[Tensor], index: int) -> Tensor:
        result: Tensor = self.net(batch[0])
        return result

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class Noting(Callback):
    """Notes what a worker is after every batch, after every epoch, and of its PushSum weight."""

    def __init__(self) -> None:
        self.models: list[Tensor] = []
        self.after_epochs: list[Tensor] = []
        self.weights: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.models.append(everything(module))
        gossip = getattr(trainer.strategy, "gossip", None)
        self.weights.append(1.0 if gossip is None else gossip.push_sum_weight)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.after_epochs.append(everything(module))


class Exchanging(Callback):
    """Gives validation other weights for its time, as averages over time do."""

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.own = [each.detach().clone() for each in module.parameters()]
        for each in module.parameters():
            each.data.mul_(0.5)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        for each, own in zip(module.parameters(), self.own, strict=True):
            each.data.copy_(own)


def everything(module: nn.Module) -> Tensor:
    """Return all parameters and buffers as one vector."""
    return torch.cat([each.detach().double().flatten() for each in module.state_dict().values()])


def data(rows: int = 64, seed: int = 0) -> TensorDataset:
    """Return inputs and targets."""
    dice = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 6, dtype=torch.float64, generator=dice)
    return TensorDataset(inputs, inputs[:, :1].sin() + 0.1 * inputs[:, 1:2])


def train(strategy: Any, module: LightningModule, *callbacks: Any, ckpt_path: Any = None, **options: Any) -> Trainer:
    """Fit; each worker draws random numbers of its own, and Lightning gives each its own examples."""
    torch.manual_seed(dist.get_rank() + (0 if ckpt_path is None else 100))
    chosen = {"max_epochs": EPOCHS, "plugins": [Processes()], **options}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = any(isinstance(each, ModelCheckpoint) for each in callbacks)
    trainer = Trainer(strategy=strategy, accelerator="cpu", devices=4, callbacks=list(callbacks), **quiet, **chosen)
    trainer.fit(module, DataLoader(data(), 4, shuffle=True), DataLoader(data(16, 1), 4), ckpt_path=ckpt_path)
    return trainer


def keep_all(folder: Path) -> ModelCheckpoint:
    """Return a callback that keeps the checkpoint of every epoch, written once validation is over."""
    return ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=False)


def resume(folder: Path, name: str) -> dict[str, Any]:
    """Train, and train once more from the middle; and from what was saved after a shorter training."""
    noting = Noting()
    seed_everything(1)
    whole = Regression()
    trainer = train(GossipStrategy(**GOSSIPS[name]), whole, noting, keep_all(folder / name))
    found = {"models": noting.models, "weights": noting.weights, "validated": whole.validated, "end": everything(whole)}
    found["after epochs"] = noting.after_epochs
    half, again = folder / name / f"epoch={HALF - 1}.ckpt", Noting()
    torch.manual_seed(7)
    resumed = Regression()
    train(GossipStrategy(**GOSSIPS[name]), resumed, again, ckpt_path=half)
    found["resumed"], found["resumed end"] = again.models, everything(resumed)
    loaded = Regression.load_from_checkpoint(folder / name / f"epoch={EPOCHS - 1}.ckpt")
    found["file"] = everything(loaded)
    found["tested"] = trainer.test(whole, DataLoader(data(16, 1), 4), verbose=False)
    found["predicted"] = trainer.predict(whole, DataLoader(data(4, 1), 1))
    return found


def save_after_fit(folder: Path) -> dict[str, Any]:
    """Save once training is over, and go on from there; with a callback that exchanges weights for validation."""
    path, exchanging, again = folder / "after.ckpt", Noting(), Noting()
    seed_everything(1)
    first = train(GossipStrategy(**GOSSIPS["sgp"]), Regression(), exchanging, Exchanging(), max_epochs=HALF)
    first.save_checkpoint(path)
    first.save_checkpoint(path)  # in the place of the former
    dist.barrier()
    beside = sorted(each.name for each in folder.glob("after.ckpt*"))
    train(GossipStrategy(**GOSSIPS["sgp"]), Regression(), again, ckpt_path=path)
    first.strategy.remove_checkpoint(path)
    dist.barrier()
    left = sorted(each.name for each in folder.glob("after.ckpt*"))
    return {"models": exchanging.models, "resumed": again.models, "beside": beside, "left": left}


def compare_with_ddp(folder: Path) -> dict[str, list[Tensor]]:
    """Train with Lightning's DDP and with gossip's AllReduce, clipped and accumulated; and go on from DDP's file."""
    found = {}
    for name, strategy in (("ddp", DDPStrategy()), ("allreduce", GossipStrategy("allreduce"))):
        seed_everything(1)
        noting = Noting()
        options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.3}
        trainer = train(strategy, Regression(0.0), noting, **options)
        found[name] = noting.models
        if name == "ddp":
            trainer.save_checkpoint(folder / "ddp.ckpt")
            dist.barrier()
    noting = Noting()
    train(GossipStrategy("sgp", "ring"), Regression(0.0), noting, ckpt_path=folder / "ddp.ckpt", max_epochs=EPOCHS + 1)
    found["from ddp"] = noting.models
    return found


class Adversaries(LightningModule):
    """Two models in one module, stepped by hand, of which one rests every other time."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 1).double(), nn.Linear(6, 1).double()
        self.steps: list[int] = []

    def training_step(self, batch: list[Tensor], index: int) -> None:
        one, other = self.optimizers()
        for optimizer, net in ((one, self.one), (other, self.other)):
            if net is self.other or index % 2 == 0:
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward((net(batch[0]) - batch[1]).square().mean())
                optimizer.step()
                self.untoggle_optimizer(optimizer)
        self.steps.append(self.trainer.strategy.gossip.step)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(net.parameters(), lr=0.01) for net in (self.one, self.other)]


def step_by_hand() -> dict[str, Any]:
    """Train with manual optimization."""
    module, noting = Adversaries(), Noting()
    train(GossipStrategy("sgp", "ring"), module, noting, max_epochs=1)
    return {"steps": module.steps, "model": noting.models[-1], "end": everything(module)}


def be_asked_to_requeue(folder: Path) -> dict[str, Any]:
    """Get SLURM's signal on one worker in the middle of a step; return what Lightning did about it."""
    commands: list[list[str]] = []

    class Signalled(Callback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            if trainer.global_step == 5 and dist.get_rank() == 2:
                os.kill(os.getpid(), signal.SIGUSR1)

    with patch.object(signal_connector, "call", lambda command: commands.append(command) or 0):
        os.environ["SLURM_JOB_ID"] = "77"
        options = {"plugins": [Processes(auto_requeue=True)], "default_root_dir": str(folder)}
        train(GossipStrategy("sgp", "ring"), Regression(), Signalled(), **options)
    saved = torch.load(folder / "hpc_ckpt_1.ckpt", weights_only=True)
    files = sorted(path.name.split("-")[1] for path in (folder / saved["gossip"]["folder"]).glob("rank-*"))
    return {"commands": commands, "step": saved["global_step"], "files": files}


def overflow() -> dict[str, Any]:
    """Train in fp16 with a scaler; the gradients of one worker overflow once."""

    class Overflowing(Regression):
        steps: ClassVar[list[int]] = []

        def on_before_batch_transfer(self, batch: list[Tensor], index: int) -> list[Tensor]:
            return [each.float() for each in batch]

        def on_after_backward(self) -> None:
            if self.trainer.fit_loop.epoch_loop.total_batch_idx == 3 and dist.get_rank() == 1:
                self.net[0].weight.grad.fill_(torch.inf)

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps.append(self.trainer.strategy.gossip.step)

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    module = Overflowing()
    module.net.float()
    train(GossipStrategy("sgp", "ring"), module.float(), plugins=[Processes(), plugin], max_epochs=1)
    return {"scale": plugin.scaler.get_scale(), "steps": module.steps}


def be_refused(folder: Path) -> dict[str, str]:
    """Return what is said to mistakes, of which no worker may hang."""
    found: dict[str, str] = {}

    def refused(what: str, kind: type[Exception], *args: Any, **options: Any) -> None:
        with pytest.raises(kind) as caught:
            train(*args, **options)
        found[what] = str(caught.value)

    class Wrapped(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.net = DistributedDataParallel(self.net)

    class Still(Regression):
        def configure_optimizers(self) -> None:
            return None

    sgp, path = GOSSIPS["sgp"], folder / "sgp" / f"epoch={HALF}.ckpt"
    refused("ddp", ValueError, GossipStrategy("sgp"), Wrapped())
    refused("still", ValueError, GossipStrategy("sgp"), Still())
    refused("other", ValueError, GossipStrategy("dpsgd", "ring"), Regression(), ckpt_path=path)
    for name, message in (("find_unused_parameters", "option of ddp"), ("topologie", "unknown option")):
        with pytest.raises(ValueError, match=name) as caught:
            GossipStrategy("sgp", **{name: True})
        found[message] = str(caught.value)
    saved = folder / "sgp" / torch.load(path, weights_only=True)["gossip"]["folder"]
    reshaped = Noting()
    train(GossipStrategy("dpsgd", "ring", reshape=True), Regression(), reshaped, ckpt_path=path)
    found["reshaped"] = str(len(reshaped.models))
    dist.barrier()
    if dist.get_rank() == 0:
        next(saved.glob("rank-3-*")).unlink()
    dist.barrier()
    refused("rank", RuntimeError, GossipStrategy(**sgp), Regression(), ckpt_path=path)
    dist.barrier()
    if dist.get_rank() == 0:
        saved.rename(folder / "elsewhere")
    dist.barrier()
    refused("folder", ValueError, GossipStrategy(**sgp), Regression(), ckpt_path=path)
    return found


def run_the_example(folder: Path) -> list[dict[str, float]]:
    """Run docs/examples/lightning_trainer.py as torchrun would, for two epochs and then for one more."""
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, GROUP_RANK="0")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", TORCHELASTIC_RUN_ID="test")
    os.environ.update(PL_TRAINER_LIMIT_TRAIN_BATCHES="5", PL_TRAINER_LIMIT_VAL_BATCHES="2", PL_TRAINER_LOGGER="False")
    os.environ.update(PL_TRAINER_ENABLE_PROGRESS_BAR="False")
    os.chdir(folder)
    found = []
    for epochs in (2, 3):
        with patch.object(sys, "argv", ["lightning_trainer.py", str(epochs)]):
            seed_everything(epochs)
            trainer = runpy.run_path(str(EXAMPLES / "lightning_trainer.py"), run_name="__main__")["trainer"]
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found.append({**metrics, "step": trainer.global_step, "epoch": trainer.current_epoch})
        dist.barrier()
    os.chdir("/")
    return found


def do_all(folder: str) -> dict[str, Any]:
    """Do all of it, in one start of four workers."""
    place = Path(folder)
    found: dict[str, Any] = {name: resume(place, name) for name in GOSSIPS}
    found["after fit"] = save_after_fit(place)
    found["ddp"] = compare_with_ddp(place)
    found["by hand"] = step_by_hand()
    found["requeue"] = be_asked_to_requeue(place / "slurm")
    found["overflow"] = overflow()
    found["refused"] = be_refused(place)
    found["example"] = run_the_example(place)
    return found

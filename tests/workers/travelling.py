"""What real workers do in test_travelling.py: things that happen while models are on their way to peers."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sgp_core
from sgp_core import Gossip
from sgp_core.runtime.state_folder import StateFolder
from sgp_core.topology import Topology
from tests.workers.agreement import Irregular, batch, flatten, make_algorithm, make_optimizer

WORKERS = 4
Optimizers = list[torch.optim.Optimizer]


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Linear(12, 10)).double()


def one_peer() -> Topology:
    return sgp_core.build_topology("one_peer_exponential", world_size=WORKERS)


def loss(model: nn.Module, step: int) -> Tensor:
    inputs, targets = batch(dist.get_rank(), step)
    return nn.functional.cross_entropy(model(inputs), targets)


# -- looking at models that travel -------------------------------------------------------------------------------------
LOOKING: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "p2p": (("osgp",), "one peer", {"transport": "p2p"}),
    "shared memory": (("osgp",), "irregular", {"transport": "shared_memory"}),
    "weights": (("osgp",), "irregular", {"transport": "p2p"}),
    "int8": (("osgp",), "one peer", {"compression": "int8"}),
    "int8 and weights": (("osgp",), "irregular", {"compression": "int8"}),
    "slowmo": (("osgp", "slowmo"), "irregular", {"transport": "p2p"}),
    "diloco": (("osgp", "diloco"), "irregular", {"transport": "shared_memory"}),
    "noloco": (("osgp", "noloco"), "one peer", {"transport": "p2p"}),
    "paced": (("osgp",), "irregular", {"transport": "p2p", "pace": 2}),
}
LOOKS = 4
"""The step after the last one shows what it has changed."""


class Run:
    """A model in training, whose numbers can be compared to the bit."""

    def __init__(self, algorithm: tuple[str, ...], topology: str, options: dict[str, Any], kind: str = "sgd") -> None:
        self.model = make_model()
        self.optimizer = make_optimizer(self.model.parameters(), kind)
        graph = one_peer() if topology == "one peer" else Irregular(WORKERS)
        rule = make_algorithm(*algorithm, **({"tau": 3} if algorithm[1:] else {}))
        self.gossip = Gossip(self.model, self.optimizer, algorithm=rule, topology=graph, **options)

    def step(self, step: int) -> None:
        loss(self.model, step).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def numbers(self) -> tuple[Tensor, float, int]:
        return everything_in(self.model, self.optimizer), self.gossip.push_sum_weight, self.gossip.bytes_sent


def everything_in(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    momenta = [v for p in optimizer.state for _, v in sorted(optimizer.state[p].items()) if isinstance(v, Tensor)]
    return torch.cat([each.detach().double().reshape(-1) for each in [*model.state_dict().values(), *momenta]])


def look(run: Run, step: int, folder: Path) -> None:
    """Do, one after another at each step, what must not change a bit of what follows."""
    gossip = run.gossip
    if step % 3 == 0:
        with gossip.averaged(), torch.no_grad():
            run.model[0].weight.mul_(2.0)  # undone in the end
        assert gossip.consensus_distance() >= 0.0
        gossip.averaged_state_dict()
    elif step % 3 == 1:
        gossip.save(folder)
        gossip.load(folder)
        gossip.load_state_dict(gossip.state_dict())
    else:
        gossip.finish()
        with gossip.averaged():
            pass
        gossip.state_dict()


def looked_at(folder: Path) -> dict[str, bool]:
    """Train twice, undisturbed and looked at: whether both are the same to the bit."""
    same = {}
    for name, case in LOOKING.items():
        alone, looked = Run(*case), Run(*case)
        for step in range(LOOKS + 1):
            alone.step(step)
        for step in range(LOOKS):
            looked.step(step)
            look(looked, step, folder / name)
        looked.step(LOOKS)
        (ours, *rest), (theirs, *others) = alone.numbers(), looked.numbers()
        same[name] = torch.equal(ours, theirs) and rest == others
        for run in (alone, looked):
            run.gossip.finish()
            run.gossip.close()
    return same


# -- changing models that travel ---------------------------------------------------------------------------------------
def changed_after_finish() -> dict[str, float]:
    """Change all models after ``finish()``: how far the sum of numerators is, steps later, from that of the change."""
    apart = {}
    for name in ("p2p", "shared memory", "weights", "int8", "int8 and weights"):
        run = Run(*LOOKING[name])
        for step in range(3):
            run.step(step)
        run.gossip.finish()
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.add_(dist.get_rank() + 1.0)
        sums = []
        for group in run.optimizer.param_groups:
            group["lr"] = 0.0
        for step in range(3):
            total = flatten(run.model) * run.gossip.push_sum_weight
            dist.all_reduce(total)
            sums.append(total)
            run.step(step)
        apart[name] = max(float((total - sums[0]).abs().max()) for total in sums)
        run.gossip.close()
    return apart


class Words(nn.Module):
    """A table of words whose norms the forward bounds in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 3, max_norm=0.5)

    def forward(self) -> Tensor:
        return self.table(torch.arange(5)).square().sum()


def changed_under_way() -> dict[str, list[str]]:
    """Change models while they travel, in three ways: what is said; after ``finish()`` the step is taken."""
    said: dict[str, list[str]] = {}

    def attempt(name: str, model: nn.Module, step: Callable[[], None], change: Callable[[], object]) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        gossip = Gossip(model, optimizer, algorithm="osgp", topology=one_peer(), transport="p2p")
        said[name] = []
        for _ in range(2):
            optimizer.zero_grad()
            try:
                step()
                optimizer.step()
                change()
                optimizer.step()
            except RuntimeError as error:
                said[name].append(str(error))
            gossip.finish()
        optimizer.step()
        assert gossip.step == 3
        gossip.close()

    plain = nn.Linear(3, 2)

    def clamp() -> None:
        with torch.no_grad():
            plain.bias.clamp_(-0.1, 0.1)

    def backward() -> None:
        plain(torch.ones(1, 3)).sum().backward()

    attempt("clamp", plain, backward, clamp)
    plain = nn.Linear(3, 2)
    kept = {name: value.clone() for name, value in plain.state_dict().items()}
    attempt("load", plain, backward, lambda: plain.load_state_dict(kept))
    words = Words()
    attempt("max_norm", words, lambda: words().backward(), lambda: words())
    return said


def nothing_has_changed() -> dict[str, int]:
    """Do what leaves parameters alone between steps: how many steps were taken."""
    steps = {}
    for kind in ("sgd foreach", "adamw fused", "adamw foreach", "compiled", "tied"):
        model = make_model()
        if kind == "tied":
            model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)).double()
            model[1].weight = model[0].weight
        if kind == "compiled":
            model[2].compile(backend="eager")
        options: dict[str, Any] = {"fused": True} if "fused" in kind else {"foreach": "foreach" in kind}
        make = torch.optim.AdamW if "adamw" in kind else torch.optim.SGD
        optimizer = make(model.parameters(), lr=0.01, **options)
        gossip = Gossip(model, optimizer, algorithm="osgp", topology=one_peer(), transport="p2p")
        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        for step in range(3):
            scaler.scale(loss(model, step)).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a plain scaler
                scaler.step(optimizer)
            scaler.update()
            schedule.step()
            optimizer.zero_grad()
            ema.update_parameters(model)
            copy.deepcopy(model.state_dict())
            model.eval()
            with torch.no_grad():
                loss(model, step)
            model.train()
            model.to(torch.float64).requires_grad_(True)
        steps[kind] = gossip.step
        gossip.close()
    return steps


# -- steps of all kinds, beside the equation ---------------------------------------------------------------------------
class Shrinking(torch.optim.SGD):
    """An optimizer of a user's own, whose update reads the model."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(0.95)
        return super().step(closure)


class Steps:
    """A model and its training loop, one iteration of which is ``take``; it returns whether the optimizer stepped."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.model = make_model()
        if kind == "frozen":
            self.model[0].requires_grad_(False)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizers = self._make_optimizers()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def _make_optimizers(self) -> Optimizers:
        if self.kind == "several":
            parts = [[*self.model[0].parameters(), *self.model[1].parameters()], list(self.model[2].parameters())]
            return [torch.optim.SGD(part, lr=0.05, momentum=0.9) for part in parts]
        if self.kind == "lbfgs":
            return [torch.optim.LBFGS(self.parameters, lr=0.05, max_iter=3)]
        make = Shrinking if self.kind == "subclass" else torch.optim.SGD
        return [make(self.parameters, lr=0.05, momentum=0.9)]

    def loss(self, step: int) -> Tensor:
        return loss(self.model, step)

    def take(self, step: int) -> bool:
        optimizer = self.optimizers[-1]
        self.model.zero_grad()
        if self.kind in ("closure", "lbfgs"):

            def closure() -> Tensor:
                self.model.zero_grad()
                found = self.loss(step)
                found.backward()
                return found

            optimizer.step(closure)  # type: ignore[arg-type]
            return True
        if self.kind == "scaler":
            return self._take_scaled(step)
        if self.kind == "several":
            for each in self.optimizers:  # as adversaries do: the second looks at what the first has made
                self.model.zero_grad()
                self.loss(step).backward()
                each.step()
            return True
        if self.kind == "decay" and step == 3:
            optimizer.param_groups[0]["weight_decay"] = 0.3
        for micro in range(3 if self.kind == "accumulated" else 1):
            self.loss(step + micro).backward()
        if self.kind == "accumulated":
            nn.utils.clip_grad_norm_(self.parameters, 0.3)
        optimizer.step()
        return True

    def _take_scaled(self, step: int) -> bool:
        before = self.scaler.get_scale()
        found = self.loss(step) * (float("inf") if step in (0, 3) else 1.0)
        self.scaler.scale(found).backward()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.scaler.step(self.optimizers[0])
        self.scaler.update()
        return self.scaler.get_scale() >= before


STEPS = ("plain", "accumulated", "closure", "lbfgs", "several", "decay", "subclass", "scaler", "frozen")
STEPS_OVER = [*((kind, "p2p") for kind in STEPS), *((kind, "shared_memory") for kind in ("plain", "several", "decay"))]


def beside_the_equation(kind: str, transport: str) -> dict[str, float]:
    """Train on an irregular graph, and by the equation ``x+ = P x + U(z)``, ``w+ = P w``: return how far they part."""
    rank, topology = dist.get_rank(), Irregular(WORKERS)
    ours, exact = Steps(kind), Steps(kind)
    gossip = Gossip(ours.model, ours.optimizers, algorithm="osgp", topology=topology, transport=transport)
    weights, taken = torch.ones(WORKERS, dtype=torch.float64), 0
    for step in range(6):
        ours.take(step)
        z = [torch.zeros_like(pack(exact)) for _ in range(WORKERS)]
        dist.all_gather(z, before := pack(exact))
        if not exact.take(step):
            continue
        mixing = torch.from_numpy(topology.mixing_matrix(taken))
        update, taken = pack(exact) - before, taken + 1
        x = mixing[rank] @ (weights.unsqueeze(1) * torch.stack(z)) + update
        weights = mixing @ weights
        unpack(exact, x / weights[rank])
    buffers = zip(ours.model.buffers(), exact.model.buffers(), strict=True)
    found = {
        "model": float((pack(ours) - pack(exact)).abs().max()),
        "weight": abs(gossip.push_sum_weight - float(weights[rank])),
        "buffers": max(float((mine - theirs).abs().max()) for mine, theirs in buffers),
        "frozen": float((flatten(ours.model) - flatten(exact.model)).abs().max()),
        "steps": gossip.step - taken,
    }
    gossip.finish()
    gossip.close()
    return found


def pack(steps: Steps) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in steps.parameters])


@torch.no_grad()
def unpack(steps: Steps, vector: Tensor) -> None:
    for parameter, part in zip(steps.parameters, vector.split([p.numel() for p in steps.parameters]), strict=True):
        parameter.copy_(part.view_as(parameter))


# -- in the middle of a step -------------------------------------------------------------------------------------------
def in_the_middle() -> list[str]:
    """Look at a model between the steps of two optimizers: what is said."""
    steps = Steps("several")
    gossip = Gossip(steps.model, steps.optimizers, algorithm="osgp", topology=one_peer())
    steps.take(0)
    steps.loss(1).backward()
    steps.optimizers[0].step()
    said = []
    for ask in (gossip.averaged().__enter__, gossip.consensus_distance, gossip.state_dict):
        try:
            ask()
        except RuntimeError as error:
            said.append(str(error))
    steps.optimizers[1].step()
    with gossip.averaged():
        said.append(str(gossip.step))
    gossip.close()
    return said


# -- the states of earlier versions ------------------------------------------------------------------------------------
def states_of_earlier_versions(folder: Path) -> dict[str, Any]:
    """Load what overlap SGP saved when its messages were added a step late, into both orders."""
    late = sgp_core.build_algorithm("osgp", order="adapt_then_combine")
    found: dict[str, Any] = {}

    @contextlib.contextmanager
    def built(algorithm: Any) -> Iterator[tuple[nn.Module, torch.optim.Optimizer, Gossip]]:
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        gossip = Gossip(model, optimizer, algorithm=algorithm, topology=Irregular(WORKERS), transport="p2p")
        yield model, optimizer, gossip
        gossip.finish()
        gossip.close()

    def forget_order(state: dict[str, Any]) -> dict[str, Any]:
        state["identity"] = copy.deepcopy(state["identity"])
        del state["identity"]["algorithm"]["options"]["order"]
        return state

    def say(act: Callable[[], object]) -> str:
        try:
            act()
        except (ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    with built(late) as (model, optimizer, gossip):
        for step in range(4):
            loss(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
        state = forget_order(gossip.state_dict())
        gossip.save(folder / "earlier")
        store = StateFolder(folder / "earlier", None)
        manifest = store.manifest()
        saved = store.read(manifest, store.rank)
        forget_order(saved["gossip"])
        store.write(saved, {name: manifest[name] for name in ("step", "world_size", "node_size")})
        with gossip.averaged():
            average = flatten(model)
    found["in flight"] = bool(state["in_flight"])
    oldest = {name: value for name, value in state.items() if name != "identity"}
    with built("osgp") as (_, _, gossip):
        found["into the new order"] = say(lambda: gossip.load_state_dict(state))
        found["without identity"] = say(lambda: gossip.load_state_dict(oldest))
        found["folder"] = say(lambda: gossip.load(folder / "earlier"))
    for name, kept in (("into its own", state), ("its own without identity", oldest)):
        with built(late) as (_, _, gossip):
            found[name] = say(lambda kept=kept: gossip.load_state_dict(kept))  # type: ignore[misc]
            found[f"{name}, step"] = gossip.step
    with built("osgp") as (model, _, gossip):
        gossip.load(folder / "earlier", reshape=True)
        found["reshaped"] = float((flatten(model) - average).abs().max())
    return found


def everything(folder: str) -> dict[str, Any]:
    """Do it all in one group of workers."""
    path = Path(folder)
    return {
        "looked at": looked_at(path),
        "changed after": changed_after_finish(),
        "changed under way": changed_under_way(),
        "not changed": nothing_has_changed(),
        "steps": {case: beside_the_equation(*case) for case in STEPS_OVER},
        "in the middle": in_the_middle(),
        "earlier": states_of_earlier_versions(path),
    }

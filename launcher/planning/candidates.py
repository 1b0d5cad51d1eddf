"""What an experiment could use instead: algorithm, graph, pace, codec and outer, as words of a command line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.schema import options_class
from sgp_core.registry import NOT_AN_OPTION
from sgp_core.training.config import NOTHING, Experiment

COMPARED = ("algorithm", "topology", "outer", "pace", "compression")
"""Groups in which candidates differ."""

GRAPHS = ("one_peer_exponential", "base_k", "exponential", "hypercube", "ring", "alternating_exponential")
_IN_BACKWARD = "cluster.step_in_backward=true"
_SLOWMO = "outer=slowmo outer.tau=48"
_LOCAL = "algorithm=local_sgd algorithm.period=0"
_STREAMING = "outer=diloco outer.fragments=4 outer.overlap=5"

CANDIDATES: tuple[str, ...] = (
    "algorithm=allreduce",
    *(f"algorithm=sgp topology={graph}" for graph in GRAPHS),
    "algorithm=sgp topology=one_peer_exponential topology.peers=2",
    f"algorithm=sgp topology=one_peer_exponential {_IN_BACKWARD}",
    *(f"algorithm=sgp topology=one_peer_exponential pace.steps={steps}" for steps in (4, 16)),
    *(f"algorithm=sgp topology=one_peer_exponential compression={codec}" for codec in ("int8", "top_k")),
    f"algorithm=sgp topology=one_peer_exponential {_SLOWMO}",
    *(f"algorithm=osgp topology={graph}" for graph in ("one_peer_exponential", "base_k", "exponential")),
    "algorithm=osgp topology=one_peer_exponential compression=int8",
    f"algorithm=osgp topology=one_peer_exponential {_SLOWMO}",
    *(f"algorithm=dpsgd topology={graph}" for graph in ("ring", "hypercube")),
    "algorithm=gossip_pga topology=one_peer_exponential",
    *(f"algorithm=local_sgd algorithm.period={period}" for period in (4, 16, 64)),
    f"{_LOCAL} outer=diloco",
    f"{_LOCAL} outer=diloco outer.tau=500",
    f"{_LOCAL} {_STREAMING}",
    f"{_LOCAL} {_STREAMING} outer.compression=int4",
    f"{_LOCAL} outer=noloco",
    "algorithm=asgp topology=one_peer_exponential",
    "algorithm=adpsgd topology=bipartite_exponential",
)
"""What is compared, beside what the experiment itself has chosen."""


@dataclass(frozen=True)
class Candidate:
    """One way to run an experiment.

    Attributes:
        words: what tells it from the others, as on the command line, ``algorithm=...`` first.
        experiment: with these choices, over so many workers.
        step_in_backward: whether the optimizer's steps are taken inside backward.
        own: whether the experiment itself has chosen this.
        reference: what is called so, and shown for comparison; ``sgp-train`` cannot run it. Empty: it can.
    """

    words: tuple[str, ...]
    experiment: Experiment
    step_in_backward: bool
    own: bool = False
    reference: str = ""

    @property
    def label(self) -> str:
        """What it is called in a table, such as ``sgp one_peer_exponential peers=2``."""
        if self.reference:
            return self.reference
        short = [word.partition("=")[2] if word.partition("=")[0] in COMPARED else word for word in self.words]
        return " ".join(
            re.sub(r"^(algorithm|topology|outer|cluster)\.", "", word).removesuffix("=true") for word in short
        )


def candidates(experiment: Experiment, step_in_backward: bool) -> Iterator[Candidate]:
    """Yield every candidate for ``experiment``, its own choice first; some may not go with its other choices."""
    own = Candidate(_words_of(experiment, step_in_backward), experiment, step_in_backward, own=True)
    yield own
    for line in CANDIDATES:
        words = line.split()
        chosen: dict[str, Any] = _choices(experiment, words)
        candidate = dataclasses.replace(experiment, **chosen)
        in_backward = _IN_BACKWARD in words
        if _identity(candidate, in_backward) != _identity(experiment, step_in_backward):
            yield Candidate(tuple(words), candidate, in_backward)


def _choices(experiment: Experiment, words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the choice of each group that ``words`` make; what they leave out has its default."""
    chosen: dict[str, dict[str, Any]] = {
        "algorithm": {},
        "topology": dict(experiment.topology),
        "outer": {"name": NOTHING},
        "pace": {"name": "every"},
        "compression": {"name": NOTHING},
    }
    for word in words:
        key, _, value = word.partition("=")
        group, _, option = key.partition(".")
        if not option:
            chosen[group] = {"name": value}
        elif group in chosen:
            chosen[group][option] = int(value) if value.isdecimal() else value
    return chosen


def complete(group: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice with all of its options, defaults filled in."""
    options = options_class(group, choice["name"])
    values: dict[str, Any] = {"name": choice["name"]}
    for entry in dataclasses.fields(options):
        if entry.metadata == NOT_AN_OPTION:
            continue
        default = entry.default_factory() if callable(entry.default_factory) else entry.default
        values[entry.name] = choice.get(entry.name, None if default is dataclasses.MISSING else default)
    return values


def _identity(experiment: Experiment, step_in_backward: bool) -> list[Any]:
    rule = options_class("algorithm", experiment.algorithm["name"])
    along = rule.traits.gossips or rule.traits.one_sided
    groups = [group for group in COMPARED if along or group != "topology"]
    return [*(complete(group, getattr(experiment, group)) for group in groups), step_in_backward]


def _words_of(experiment: Experiment, step_in_backward: bool) -> tuple[str, ...]:
    """Return the words that stand for what an experiment has chosen in the groups compared."""
    plain = {"outer": NOTHING, "pace": "every", "compression": NOTHING}
    rule = options_class("algorithm", experiment.algorithm["name"])
    words = []
    for group in COMPARED:
        choice = complete(group, getattr(experiment, group))
        name = choice.pop("name")
        if group == "topology" and not (rule.traits.gossips or rule.traits.one_sided):
            continue
        if plain.get(group) != name:
            words.append(f"{group}={name}")
        usual = complete(group, {"name": name})
        words += [f"{group}.{key}={written(value)}" for key, value in choice.items() if value != usual[key]]
    return (*words, *([_IN_BACKWARD] if step_in_backward else []))


def written(value: Any) -> str:
    """Return a value as on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))

"""Linear speed-up: the noise floor over n, and loss against samples per worker for 4 to 256 virtual workers.

    python benchmarks/papers/linear_speed_up.py

Every worker has f(x) = |x|^2 / 2 in 64 dimensions and gradients with noise of variance 1 in each. With rate g the mean
of n workers settles at E|mean|^2 = d g / (n (2 - g)): n workers average n times the noise away, with one message per
worker and step. A rate of g = n g_1 keeps this floor, and reaches it in n times fewer steps: until g is no longer
small, each worker needs n times fewer samples for the same loss. ``one worker`` is SGD with one n-th of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

import sgp_core
from comparison import Comparison, Findings, report

D, START = 64, 4.0
SIZES = (4, 8, 16, 32, 64, 128, 256)
RATE = 0.002
"""Of one worker."""


def losses(n: int, lr: float, steps: int, algorithm: str = "sgp", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return |mean|^2 / 2 and the mean of |z_i - mean|^2 after each step, ``[steps + 1]``."""
    noise = torch.Generator().manual_seed(seed)
    run = sgp_core.simulate(
        sgp_core.build_algorithm(algorithm),
        sgp_core.build_topology("one_peer_exponential", world_size=n),
        torch.full((n, D), START, dtype=torch.float64),
        lambda z, step: z + torch.randn(n, D, dtype=torch.float64, generator=noise),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        steps=steps,
    )
    return run.mean.square().sum(1) / 2, (run.z - run.mean.unsqueeze(1)).square().sum(2).mean(1)


def floor(n: int, lr: float) -> float:
    """Return the loss at which the mean settles."""
    return D * lr / (n * (2 - lr)) / 2


def expected(n: int, lr: float, step: int) -> float:
    """Return the expected loss of the mean after ``step`` steps."""
    left = (1 - lr) ** (2 * step)
    return D * START**2 / 2 * left + floor(n, lr) * (1 - left)


def steps_to(target: float, loss: Tensor | Sequence[float]) -> int:
    """Return the first step with a loss of at most ``target``."""
    return next(step for step, value in enumerate(loss) if value <= target)


def noise_floors(sizes: Sequence[int], lr: float = 0.1, steps: int = 400) -> Findings:
    """Return the floor over n, and how far workers are apart there."""
    found = Findings()
    own, theory, apart = [], [], []
    for n in sizes:
        loss, spread = losses(n, lr, steps)
        settled = float(loss[steps // 4 :].mean())
        found.rows.append(Comparison(f"n = {n}: loss of the mean at rate {lr}, settled", settled, theory=floor(n, lr)))
        own.append((float(n), settled))
        theory.append((float(n), floor(n, lr)))
        apart.append((float(n), float(spread[steps // 4 :].mean()) / 2))
    found.curves["noise floor over workers"] = {
        "sgp, mean of workers": own,
        "theory: d g / (2 n (2 - g))": theory,
        "workers about their mean": apart,
    }
    return found


def samples_per_worker(sizes: Sequence[int], target: float) -> Findings:
    """Return the steps, one sample per worker each, to a loss with rates n times as large."""
    found = Findings()
    lines: dict[str, list[tuple[float, float]]] = {}
    for n in sizes:
        lr = n * RATE
        needed = next(step for step in range(1 << 20) if expected(n, lr, step) <= target)
        loss, _ = losses(n, lr, needed + needed // 5 + 5)
        own = steps_to(target, loss)
        what = f"n = {n}, rate {lr:g}: samples per worker to a loss of {target:g}"
        found.rows.append(Comparison(what, own, theory=needed))
        stride = max(1, len(loss) // 80)
        lines[f"n = {n}"] = [(float(t), float(loss[t])) for t in range(1, len(loss), stride)]
    found.curves["over samples per worker"] = lines
    return found


def find() -> Findings:
    """Return everything."""
    floors, samples = noise_floors(SIZES), samples_per_worker(SIZES, target=0.1)
    alone = math.log(D * START**2 / 2 / 0.1) / (2 * RATE)
    first, last = samples.rows[0], samples.rows[-1]
    fall = first.own / last.own
    note = (
        f"Theory: the expected loss in closed form. One worker at rate {RATE:g} needs about {alone:.0f} samples. From 4"
        f" to 256 workers the samples per worker fall {fall:.0f} times; 64 times are linear. A large rate contracts"
        " by more than its exponential."
    )
    return Findings([*floors.rows, *samples.rows], floors.curves | samples.curves, [note])


if __name__ == "__main__":
    report("linear_speed_up", __doc__, find)

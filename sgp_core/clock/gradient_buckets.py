"""What torch's DistributedDataParallel does: it averages gradients bucket by bucket while backward runs.

Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020, section 3.2.3. No
algorithm of this library does so; the clock has it because it is what users run today.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from sgp_core.compression.base import ITEM_BYTES
from sgp_core.tensors.layout import Layout

BUCKET_MB, FIRST_BUCKET_MB = 25.0, 1.0
"""torch's defaults, in units of 2^20 bytes. A first bucket that is small is ready soon."""
_MB = 1 << 20
_WIDEST = 8


def gradient_buckets(
    layout: Layout, *, bucket_mb: float = BUCKET_MB, first_mb: float = FIRST_BUCKET_MB
) -> tuple[int, ...]:
    """Return the bytes of each bucket, in the order in which buckets become ready.

    As in torch, gradients become ready from the last parameter to the first, parameters are never cut, those of one
    dtype lie together, and a bucket is full as soon as it holds its size or more.

    Args:
        layout: of the model, whose parameters are in the order in which forward uses them.
        bucket_mb: the size of a bucket, as ``bucket_cap_mb``.
        first_mb: of the first.
    """
    buckets: list[int] = []
    for tensor in reversed(layout):
        filled = 0
        for _, shape in reversed(tensor.parameters):
            filled += prod(shape) * ITEM_BYTES.get(tensor.dtype, _WIDEST)
            if filled >= (bucket_mb if buckets else first_mb) * _MB:
                buckets.append(filled)
                filled = 0
        if filled:
            buckets.append(filled)
    return tuple(buckets)


def average_in_backward(
    begins: np.ndarray, work: np.ndarray, ready: Sequence[float], seconds: Sequence[float], speed: float
) -> np.ndarray:
    """Return when each worker's backward and the averages of all buckets are over, s, ``[workers]``.

    The average of a bucket begins when its gradients are there on all workers and that of the bucket before is over.

    Args:
        begins: when each worker's backward begins, s, ``[workers]``.
        work: how long it takes alone, s, ``[workers]``.
        ready: share of backward after which the gradients of each bucket are there, the last being 1, ``[buckets]``.
        seconds: that the average of each bucket takes, ``[buckets]``.
        speed: of computation while buckets travel.
    """
    now, done, over = begins, 0.0, -np.inf
    travel: list[tuple[float, float]] = []
    for share, taken in zip(ready, seconds, strict=True):
        now = _compute(now, (share - done) * work, travel, speed)
        done = share
        start = max(over, float(now.max()))
        if travel and start == over:  # without a pause
            travel[-1] = travel[-1][0], start + taken
        else:
            travel.append((start, start + taken))
        over = start + taken
    return np.maximum(now, over)


def _compute(now: np.ndarray, work: np.ndarray, travel: Sequence[tuple[float, float]], speed: float) -> np.ndarray:
    """Return when ``work`` is done that begins now, and is slower between the moments of ``travel``."""
    if speed < 1.0:
        for start, end in travel:
            before = np.minimum(work, np.maximum(start - now, 0.0))
            now, work = now + before, work - before
            during = np.minimum(work / speed, np.maximum(end - now, 0.0))
            now, work = now + during, work - during * speed
    return now + work

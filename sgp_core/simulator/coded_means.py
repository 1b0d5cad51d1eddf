"""Coded averages of virtual workers, row by row: the same codes of the same bytes as between real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.runtime.coded_mean import CodedMean
from sgp_core.tensors.flat_vector import FlatVector


def average_coded(x: FlatVector, codec: Codec, key: int) -> tuple[FlatVector, int]:
    """Return the average of coded rows, for each row, and the bytes that the first worker sends for it.

    ``x``, of tensors ``[n, d]``, becomes what the codes leave out.
    """
    means: list[Tensor] = []
    sent = 0
    begin = 0
    for number, count in enumerate(x.of_shards):
        spans = x.tensors[begin : begin + count]
        begin += count
        if not spans:
            continue
        rows, nbytes = _average(torch.cat(spans, dim=1), spans, codec, key)
        means += rows.split([span.shape[1] for span in spans], dim=1)
        sent += nbytes if number == 0 else 0
    return FlatVector([mean.contiguous() for mean in means]), sent


def _average(rows: Tensor, spans: Sequence[Tensor], codec: Codec, key: int) -> tuple[Tensor, int]:
    """Turn copies of rows, ``[n, d]``, into their average, and what they were copied from into what is left out."""
    n, sizes = len(rows), [span.shape[1] for span in spans]
    workers = [CodedMean(codec, [row], rank, n, key) for rank, row in enumerate(rows)]
    given = [worker.code_slices() for worker in workers]
    results = [
        worker.average({sender: given[sender][rank] for sender in range(n) if sender != rank})
        for rank, worker in enumerate(workers)
    ]
    for span, left in zip(spans, rows.split(sizes, dim=1), strict=True):
        span.copy_(left)
    for worker in workers:
        for owner, result in enumerate(results):
            worker.take(owner, result)
    own = results[0].bytes(weighed=False).numel()
    return rows, (n - 1) * own + sum(payload.bytes(weighed=False).numel() for payload in given[0].values())

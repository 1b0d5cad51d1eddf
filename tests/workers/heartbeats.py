"""A process that beats through stores of its parent's, in test_heartbeat.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist

from sgp_core.distributed.heartbeat import Heartbeat


def connect(path: str, port: int) -> dict[str, dist.Store]:
    """Return the two kinds of stores, each behind a prefix, as process groups have it."""
    return {
        "file": dist.PrefixStore("pg", dist.FileStore(path, 2)),
        "tcp": dist.PrefixStore("pg", dist.TCPStore("127.0.0.1", port, None, False)),
    }


def main() -> None:
    """Beat, and follow the commands that come line by line: ``report STEP PHASE``, or ``stop``."""
    path, port, interval_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    hearts = [Heartbeat(store, 1, interval_s) for store in connect(path, port).values()]
    for heart in hearts:
        heart.start()
    print("beats", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        for heart in hearts:
            if word == "report":
                heart.report(int(rest[0]), rest[1])
            else:
                heart.stop()
        print(Path(path).stat().st_size, flush=True)


if __name__ == "__main__":
    main()

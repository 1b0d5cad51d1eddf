"""Slow networks on one machine: each worker in a network namespace, behind a link of a known rate and delay.

Needs root, Linux, and ``ip`` and ``tc``. The rate is kept by the kernel (``tbf``, in both directions of every link);
the kernel of many machines cannot delay, so frames then go through a small switch of our own, switch.c, compiled when
needed. The bridge or switch, too, lives in namespaces: interfaces and routes of the machine stay as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from launcher.system.processes import Process, is_alive, this_process

PAYLOAD = 1448 / 1514
"""Share of what a link carries that is the message itself: the rest is headers of TCP, IP and Ethernet."""
_PREFIX = "sgp-bench"
_SUBNET = "10.113.0"
_SHAPE = ("burst", "128kb", "limit", "1mb")
_NAMESPACES = Path("/run/netns")


class Unavailable(Exception):
    """There cannot be such a network here; the message says in one sentence what is missing."""


class SlowNetwork:
    """A network for as long as the ``with`` block lasts; it is gone afterwards, whatever happened.

    Networks whose process has died without being able to clean up are removed when the next one is made.

    Args:
        workers: how many namespaces.
        mbit: rate of every link, each way, in Mbit/s.
        delay_ms: how long a message takes one way beside that.
        regions: workers are in so many regions, as equal as possible, in a row.
        thin_mbit: rate of the link that the workers of a region share towards all others, each way.

    Raises:
        Unavailable: see the message.
    """

    def __init__(
        self, workers: int, mbit: float, delay_ms: float = 0.0, *, regions: int = 1, thin_mbit: float | None = None
    ) -> None:
        if regions > 1 and (delay_ms or thin_mbit is None):
            raise Unavailable("regions need the rate of the thin link between them, and no delay")
        self._mbit = mbit
        self._delay_ms = delay_ms
        self._regions, self._thin_mbit = regions, thin_mbit
        me = this_process()
        self._mark = f"{_PREFIX}-{me.pid}-{me.started}-{os.urandom(2).hex()}"
        self.namespaces = [f"{self._mark}-{k}" for k in range(workers)]
        self._switch: subprocess.Popen[str] | None = None

    def __enter__(self) -> SlowNetwork:
        check(delay=self._delay_ms > 0)
        remove_stale()
        try:
            for namespace in self.namespaces:
                _run("ip", "netns", "add", namespace)
                _run("ip", "-n", namespace, "link", "set", "lo", "up")
            if self._delay_ms:
                self._connect_delayed()
            else:
                self._connect()
            for k, namespace in enumerate(self.namespaces):
                _run("ip", "-n", namespace, "address", "add", f"{_SUBNET}.{k + 1}/24", "dev", "eth0")
                _run("ip", "-n", namespace, "link", "set", "eth0", "up")
                self._shape(namespace, "eth0", self._mbit)
                # of the kernel's choices the steadiest; a namespace may not change the default
                route = ("route", "replace", f"{_SUBNET}.0/24", "dev", "eth0", "src", f"{_SUBNET}.{k + 1}")
                _run("ip", "-n", namespace, *route, "congctl", "cubic")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def remove(self) -> None:
        """Take it down."""
        if self._switch is not None:
            self._switch.kill()
            self._switch.communicate()
        _remove(lambda name: name.startswith(f"{self._mark}-"))

    def _connect(self) -> None:
        """Cable every namespace to the bridge of its region, and limit what the bridge sends to it."""
        bridges = [f"{self._mark}-bridge{region}" for region in range(self._regions)]
        for bridge in bridges:
            self._make_bridge(bridge)
        for k, namespace in enumerate(self.namespaces):
            bridge = bridges[k * self._regions // len(self.namespaces)]
            self._cable(bridge, f"port{k}", namespace, "eth0", self._mbit)
        if self._thin_mbit is not None:
            core = f"{self._mark}-core"
            self._make_bridge(core)
            for region, bridge in enumerate(bridges):
                self._cable(core, f"port{region}", bridge, "uplink", self._thin_mbit)
                _run("ip", "-n", bridge, "link", "set", "uplink", "master", "br0", "up")
                self._shape(bridge, "uplink", self._thin_mbit)

    def _make_bridge(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", namespace, "link", "set", "br0", "up")

    def _cable(self, bridge: str, port: str, namespace: str, device: str, mbit: float) -> None:
        """Join a device that is made in a namespace to a bridge, and limit what the bridge sends to it."""
        _run("ip", "-n", bridge, "link", "add", port, "type", "veth", "peer", "name", device, "netns", namespace)
        _run("ip", "-n", bridge, "link", "set", port, "master", "br0", "up")
        self._shape(bridge, port, mbit)

    def _connect_delayed(self) -> None:
        """Start the switch, which makes every eth0, and delays and limits what it sends there."""
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}-") as folder:
            program = str(Path(folder, "switch"))
            _run("cc", "-O2", "-o", program, str(Path(__file__).with_name("switch.c")))
            words = [program, f"{self._mbit * 1e6:.0f}", f"{self._delay_ms / 1e3:.6f}", *self.namespaces]
            self._switch = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert self._switch.stdout is not None
            if self._switch.stdout.readline() != "ready\n":
                raise Unavailable(f"the switch did not start: {self._switch.communicate()[1].strip()}")
        for k, namespace in enumerate(self.namespaces):
            # short segments: a long one would leave in a burst
            address = ("address", f"02:00:00:00:00:{k:02x}", "gso_max_size", "16384")
            _run("ip", "-n", namespace, "link", "set", "eth0", *address)

    def _shape(self, namespace: str, device: str, mbit: float) -> None:
        rate = ("tbf", "rate", f"{mbit * 1e3:.0f}kbit", *_SHAPE)
        _run("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *rate)


def check(*, delay: bool = False) -> None:
    """Raise :class:`Unavailable` with what is missing, if anything is."""
    programs = {"ip": "iproute2", "tc": "iproute2", **({"cc": "gcc"} if delay else {})}
    missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
    if not Path("/proc/self/ns/net").exists():
        raise Unavailable("a slow network needs Linux, whose network namespaces it is made of")
    if missing:
        raise Unavailable(f"a slow network needs the packages {' '.join(missing)} (Debian's names); install them first")
    if os.geteuid() != 0:
        raise Unavailable("a slow network needs root, to make network namespaces; run it with sudo")
    if delay and not Path("/dev/net/tun").exists():
        raise Unavailable("a delay needs /dev/net/tun, which this machine does not have")


def remove_stale() -> None:
    """Remove networks whose process is gone."""

    def is_stale(name: str) -> bool:
        made = re.fullmatch(rf"{_PREFIX}-(\d+)-(\d*)-[0-9a-f]+-\w+", name)
        return made is not None and not is_alive(Process(int(made[1]), made[2]))

    _remove(is_stale)


def _remove(chosen: Callable[[str], bool]) -> None:
    known = [path.name for path in _NAMESPACES.iterdir()] if _NAMESPACES.exists() else []
    for name in filter(chosen, known):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _run(*words: str) -> None:
    # An interrupt must not leave a command running that makes a namespace after all have been removed. The signals
    # wait until the command has ended; it inherits the mask, so that Ctrl-C in a terminal does not end it either.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if done.returncode:
        raise Unavailable(f"`{' '.join(words)}` failed: {done.stderr.strip()}")

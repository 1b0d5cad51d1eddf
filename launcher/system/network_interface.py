"""The network interface over which workers on different machines communicate."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

from sgp_core.errors import ConfigurationError

_INTERFACES = Path("/sys/class/net")
_KINDS = {"ethernet": "1", "infiniband": "32"}
"""Hardware types of Linux (``ARPHRD_ETHER``, ``ARPHRD_INFINIBAND``), which psutil does not know."""


def choose_interface(wanted: str | None, interfaces: Path = _INTERFACES) -> str | None:
    """Return the name of the interface to use, None to leave the choice to gloo and NCCL.

    Args:
        wanted: ``ethernet`` or ``infiniband``, for the first of the kind that is up; or a name.
        interfaces: folder with an entry for each interface.

    Raises:
        ConfigurationError: this machine has no such interface.
    """
    if wanted is None:
        return None
    here = sorted(path.name for path in interfaces.iterdir()) if interfaces.is_dir() else []
    if wanted in here:
        return wanted
    fitting = [
        name
        for name in here
        if _read(interfaces / name / "type") == _KINDS.get(wanted) and _read(interfaces / name / "operstate") == "up"
    ]
    if fitting:  # cards before bridges and the ends of virtual cables, which have no device
        return sorted(fitting, key=lambda name: not (interfaces / name / "device").exists())[0]
    raise ConfigurationError(f"cluster.network={wanted}: this machine has {', '.join(here) or 'no interface'}")


def use_interface(wanted: str | None) -> None:
    """Have gloo and NCCL use an interface. Over Ethernet, NCCL does not look for InfiniBand (not tried on hardware)."""
    name = choose_interface(wanted)
    if name is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
    if wanted == "ethernet":
        os.environ["NCCL_IB_DISABLE"] = "1"


def find_address(interface: str | None) -> str:
    """Return the IPv4 address under which other machines reach this one.

    Args:
        interface: the interface to use; None: the one that this machine's name stands for.

    Raises:
        OSError: the interface has no address, or this machine cannot resolve its own name.
    """
    if interface is not None:
        for address in psutil.net_if_addrs().get(interface, []):
            if address.family == socket.AF_INET:
                return address.address
        raise OSError(f"network interface {interface} has no IPv4 address")
    for name in (os.environ.get("SLURMD_NODENAME"), socket.gethostname()):
        try:
            if name:
                return socket.gethostbyname(name)
        except OSError:
            continue
    raise OSError("this machine cannot resolve its own name; cluster.network=<interface> would help")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

"""Which network interface workers on different machines talk over."""

from __future__ import annotations

import os
from pathlib import Path

from sgp_core.errors import ConfigurationError

_INTERFACES = Path("/sys/class/net")
_KINDS = {"ethernet": "1", "infiniband": "32"}
"""Hardware types of Linux (``ARPHRD_ETHER``, ``ARPHRD_INFINIBAND``)."""


def choose_interface(wanted: str | None, interfaces: Path = _INTERFACES) -> str | None:
    """Return the name of the interface to use, None to leave the choice to gloo and NCCL.

    Args:
        wanted: ``ethernet`` or ``infiniband`` (the first of the kind that is up), or a name.

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
        if _fact(interfaces / name / "type") == _KINDS.get(wanted) and _fact(interfaces / name / "operstate") == "up"
    ]
    if fitting:  # cards before bridges and the ends of virtual cables, which have no device
        return sorted(fitting, key=lambda name: not (interfaces / name / "device").exists())[0]
    raise ConfigurationError(f"cluster.network={wanted}: this machine has {', '.join(here) or 'no interface'}")


def use_interface(wanted: str | None) -> None:
    """Tell gloo and NCCL. Over Ethernet NCCL is also told to leave InfiniBand alone (not exercised on hardware)."""
    name = choose_interface(wanted)
    if name is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
    if wanted == "ethernet":
        os.environ["NCCL_IB_DISABLE"] = "1"


def address(interface: str | None) -> str:
    """Return the address under which other machines reach this one."""
    import fcntl
    import socket
    import struct

    if interface is not None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("256s", interface.encode()[:15])
            answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
        return socket.inet_ntoa(answer[20:24])
    for name in (os.environ.get("SLURMD_NODENAME"), socket.gethostname()):
        try:
            if name:
                return socket.gethostbyname(name)
        except OSError:
            continue
    raise OSError("this machine cannot resolve its own name; cluster.network=<interface> would help")


def _fact(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

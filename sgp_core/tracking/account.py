"""Whether there is an account for Weights & Biases, read from the environment and its files without importing it."""

from __future__ import annotations

import configparser
import netrc
import os
from urllib.parse import urlparse


def has_account() -> bool:
    """Whether there is a key: in the environment, or in netrc for the server in use."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(_server()).hostname
    candidates = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for candidate in filter(None, candidates):
        try:
            machines = netrc.netrc(os.path.expanduser(str(candidate))).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if any(machine == host or "wandb" in machine or "coreweave" in machine for machine in machines):
            return True
    return False


def _server() -> str:
    """Return the address of a self-hosted server, which ``wandb login --host`` keeps in W&B's settings file."""
    if "WANDB_BASE_URL" in os.environ:
        return os.environ["WANDB_BASE_URL"]
    folder = os.environ.get("WANDB_CONFIG_DIR", os.path.expanduser("~/.config/wandb"))
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(os.path.join(folder, "settings"))
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return settings.get("default", "base_url", fallback="")

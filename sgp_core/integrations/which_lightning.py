"""Which of Lightning's two packages a script uses: ``lightning.pytorch``, or ``pytorch_lightning``, its former name."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEW, _OLD = "lightning.pytorch", "pytorch_lightning"


def find_lightning() -> str:
    """Return the name of the one that is imported already; if none or both are, the first that is installed.

    Raises:
        ImportError: none is.
    """
    if _OLD in sys.modules and _NEW not in sys.modules:
        return _OLD
    for name in (_NEW, _OLD):
        if find_spec(name.partition(".")[0]) is not None:
            return name
    raise ImportError("Lightning is not installed; pip install 'stochastic-gradient-push[lightning]' installs it")

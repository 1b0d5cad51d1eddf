"""What all tests share."""

from __future__ import annotations

import os

# Tests compute with tiny tensors beside many worker processes: a second thread would only spin.
os.environ["OMP_NUM_THREADS"] = "1"

"""How many values a sweep stands for, counted before they are listed: a range may have more than memory holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sgp_core.errors import ConfigurationError

MOST_RUNS = 10_000
MOST_VALUES = 1_000
"""Of one setting that is searched over: each of them is checked before a search starts."""


def parse_word(word: str) -> Any | None:
    """Return an override as Hydra understands it; None if it cannot be read, which who composes explains.

    Raises:
        ConfigurationError: a number in it has thousands of digits.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
    except ValueError as error:  # more digits than Python converts
        raise ConfigurationError(f"cannot read '{word}': a number in it has too many digits") from error


def check_size(arguments: Sequence[str]) -> None:
    """Refuse a sweep of too many runs. Words that cannot be read are passed over: who composes explains them.

    Raises:
        ConfigurationError: with the words of the sweep, and how many runs it would have.
    """
    counts: dict[str, tuple[str, int]] = {}
    for word in arguments:
        override = parse_word(word)
        if override is not None and override.is_sweep_override():
            counts[override.get_key_element()] = word, count_values(word, override.value())
    total = math.prod(count for _, count in counts.values())
    if total > MOST_RUNS:
        words = " ".join(word for word, count in counts.values() if count > 1)
        raise ConfigurationError(f"{words}: {total} runs are too many; at most {MOST_RUNS}")


def count_values(word: str, sweep: Any) -> int:
    """Return how many values a sweep of Hydra's has; 1 for a glob or an interval, which list none.

    Args:
        word: what the user wrote, for messages.

    Raises:
        ConfigurationError: a range that never ends.
    """
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    if isinstance(sweep, ChoiceSweep):
        return len(sweep.list)
    if not isinstance(sweep, RangeSweep):
        return 1
    numbers = (sweep.start or 0, sweep.stop or 0, sweep.step)
    if not all(isinstance(number, int) or math.isfinite(number) for number in numbers):
        raise ConfigurationError(f"{word}: must be finite")
    start, stop, step = map(Fraction, numbers)  # exact: a float would overflow
    if step == 0:
        raise ConfigurationError(f"{word}: its step is 0")
    return max(0, math.ceil((stop - start) / step))

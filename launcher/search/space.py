"""The space of a search, written as Hydra's sweeps: lists, ``choice``, ``range``, ``interval``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.sweeps import MOST_VALUES, count_values
from launcher.config.unreadable import explain_unreadable
from sgp_core.errors import ConfigurationError


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched over: a list of values, or an interval."""

    key: str
    values: tuple[str, ...] = ()
    """The values as command-line text; empty for an interval."""
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    whole: bool = False

    def distribution(self) -> Any:
        """Return it as a distribution of optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.logarithmic)
        return FloatDistribution(self.low, self.high, log=self.logarithmic)

    def samples(self) -> list[str]:
        """Return values to check before a search starts: every one of a list, or both ends of an interval."""
        return list(self.values) or [self.format(self.low), self.format(self.high)]

    def format(self, value: Any) -> str:
        """Return ``value`` as command-line text."""
        return str(int(value)) if self.whole else str(value)


def parse_space(arguments: Sequence[str]) -> tuple[list[str], list[Dimension]]:
    """Split a command line into the words that hold for every run, and the settings that are searched over.

    Raises:
        ConfigurationError: nothing to search over, or a sweep that a search cannot use.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

    fixed, space = [], []
    for word in arguments:
        if word.startswith("-") or "=" not in word:
            fixed.append(word)
            continue
        try:
            override = OverridesParser.create().parse_override(word)
        except Exception as error:
            raise ConfigurationError(explain_unreadable(word, str(error))) from None
        value: Any = override.value()
        if not override.is_sweep_override():
            fixed.append(word)
        elif isinstance(value, IntervalSweep):
            low, high = float(value.start or 0), float(value.end or 0)
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConfigurationError(f"{word}: must be finite")
            logarithmic = "log" in value.tags
            if not low < high or (logarithmic and low <= 0):
                raise ConfigurationError(f"{word}: an interval needs low < high{' and low > 0' if logarithmic else ''}")
            whole = isinstance(value.start, int) and isinstance(value.end, int)
            space.append(Dimension(override.get_key_element(), (), low, high, logarithmic, whole))
        elif isinstance(value, ChoiceSweep | RangeSweep):
            if (count := count_values(word, value)) > MOST_VALUES:
                raise ConfigurationError(f"{word}: {count} values are too many; at most {MOST_VALUES}")
            space.append(Dimension(override.get_key_element(), tuple(override.sweep_string_iterator())))
        else:
            raise ConfigurationError(f"{word}: a search takes lists, choice(), range() and interval()")
    if not space:
        raise ConfigurationError("search= needs something to search over, such as optimizer.lr='interval(0.01,1)'")
    return fixed, space

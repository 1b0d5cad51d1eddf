"""What damage may end in: a result, or an error of one short sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sgp_core.errors import ConfigurationError

T = TypeVar("T")

_LONGEST = 600


def result_of(work: Callable[[], T], case: object) -> T | None:
    """Return what ``work`` returns, None where it refuses. Any other exception is the test's failure.

    Args:
        case: names the case if the refusal is no short sentence.
    """
    try:
        return work()
    except ConfigurationError as error:
        message = str(error)
    assert message, case
    assert "\n" not in message, (case, message)
    assert "object at 0x" not in message, (case, message)
    assert len(message) < _LONGEST, (case, message)
    return None

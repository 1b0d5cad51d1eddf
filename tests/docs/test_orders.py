"""The drawing of the orders of a step is that of its script, and shows the waits that it tells of."""

from __future__ import annotations

from docs import make_orders
from docs.make_orders import LATE, LATE_BY, PICTURE, Timeline, drawing


def waits(line: Timeline, number: int) -> list[float]:
    """Return how long each worker waits in a step."""
    return [
        round(sum(s.end - s.begin for s in line.spans if (s.worker, s.what, s.number) == (worker, "waits", number)), 9)
        for worker in make_orders.WORKERS
    ]


def test_the_drawing_is_that_of_the_script() -> None:
    assert PICTURE.read_text(encoding="utf-8") == drawing(), "run `python docs/make_orders.py`"
    assert len(drawing()) < 50_000


def test_who_waits_for_whom() -> None:
    (_, _, after), (_, _, ahead), (_, _, later) = make_orders.PANELS
    late, other = LATE[0], 1 - LATE[0]
    assert waits(after, 1)[late] == make_orders.MESSAGE
    assert waits(after, 1)[other] == round(make_orders.MESSAGE + LATE_BY, 9)
    for line in (ahead, later):
        assert [waits(line, number) for number in range(4)] == 4 * [[0, 0]]
    assert [arrives for number, _, arrives in ahead.messages if number == 1] == [
        s.end + make_orders.MESSAGE for s in ahead.spans if (s.worker, s.what, s.number) == (0, "step", 0)
    ]

"""Draw docs/images/orders.svg, who computes and what travels when in each order: ``python docs/make_orders.py``.

Two workers exchange a message in every step, and one of them takes longer once. Times are made up; the waits follow
from them as in benchmarks/suite/maxplus.py, with messages that take time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PICTURE = Path(__file__).parent / "images" / "orders.svg"

WORKERS, STEPS = (0, 1), 6
DURATIONS = {"forward": 1.0, "backward": 1.8, "step": 0.45, "mix": 0.45}
LATE, LATE_BY = (1, 1), 1.0
"""The worker and the step whose forward takes longer, and by how much."""
MESSAGE, LONG_MESSAGE = 1.7, 4.6
"""The time of a message: less than a computation takes, and more."""

UNIT, LEFT, SHOWN = 52, 74, 15.6
"""Pixels of a unit of time, where time begins, and how much of it is drawn."""
LANE, BETWEEN, HEAD, BELOW = 26, 54, 46, 26
WIDTH = LEFT + round(UNIT * SHOWN) + 10
COLOURS = {
    "forward": ("#e3edf9", "#7d9cc4"),
    "backward": ("#c9dcf3", "#7d9cc4"),
    "step": ("#fbdcaa", "#c9913c"),
    "mix": ("#c5e7cb", "#5c9e69"),
    "waits": ("#ffffff", "#c8ccd2"),
}
"""Fill and outline."""


@dataclass(frozen=True)
class Span:
    """What a worker does from when to when."""

    worker: int
    what: str
    number: int
    begin: float
    end: float


@dataclass
class Timeline:
    """What two workers do, and the messages between them: their number, when they leave and when they arrive."""

    spans: list[Span] = field(default_factory=list)
    messages: list[tuple[int, float, float]] = field(default_factory=list)
    now: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def do(self, worker: int, number: int, *stages: str) -> None:
        """Let a worker go through stages of a step."""
        for what in stages:
            longer = LATE_BY if what == "forward" and (worker, number) == LATE else 0.0
            self._go_on(worker, what, number, self.now[worker] + DURATIONS[what] + longer)

    def wait(self, worker: int, number: int, until: float) -> None:
        """Let a worker wait, if it has to."""
        if until > self.now[worker]:
            self._go_on(worker, "waits", number, until)

    def exchange(self, number: int, duration: float = MESSAGE) -> float:
        """Let both workers send the message of a step; return when it arrives, which is once both are there."""
        leaves = max(self.now)
        self.messages.append((number, leaves, leaves + duration))
        return leaves + duration

    def _go_on(self, worker: int, what: str, number: int, end: float) -> None:
        self.spans.append(Span(worker, what, number, self.now[worker], end))
        self.now[worker] = end


def adapt_then_combine() -> Timeline:
    """Compute and step, then exchange and mix."""
    line = Timeline()
    for number in range(STEPS):
        for worker in WORKERS:
            line.do(worker, number, "forward", "backward", "step")
        arrival = line.exchange(number)
        for worker in WORKERS:
            line.wait(worker, number, arrival)
            line.do(worker, number, "mix")
    return line


def adapt_while_communicate() -> Timeline:
    """Exchange and compute at the same time, then mix and step."""
    line = Timeline()
    for number in range(STEPS):
        arrival = line.exchange(number)
        for worker in WORKERS:
            line.do(worker, number, "forward", "backward")
            line.wait(worker, number, arrival)
            line.do(worker, number, "mix", "step")
    return line


def overlap_two_steps() -> Timeline:
    """Compute and step, send a copy, and mix what was sent two steps before. Steps before the first are not drawn."""
    before = -2 * sum(DURATIONS.values())
    line = Timeline(now=[before, before])
    arrivals: dict[int, float] = {}
    for number in range(-2, STEPS):
        for worker in WORKERS:
            line.do(worker, number, "forward", "backward", "step")
        arrivals[number] = line.exchange(number, LONG_MESSAGE)
        for worker in WORKERS:
            line.wait(worker, number, arrivals.get(number - 2, before))
            line.do(worker, number, "mix")
    return line


PANELS = [
    (
        "adapt_then_combine",
        "The message of a step leaves when it is taken. Both wait for it, and worker 0 for worker 1, which is late.",
        adapt_then_combine(),
    ),
    (
        "adapt_while_communicate",
        "The message of a step leaves when the step before has ended, and travels during forward and backward.",
        adapt_while_communicate(),
    ),
    (
        "overlap_steps=2",
        "A copy leaves when a step is taken, and is mixed in two steps later: that of step 0 in step 2.",
        overlap_two_steps(),
    ),
]
"""For each order its name, what is to be seen, and the timeline."""


def drawing() -> str:
    """Return the drawing as SVG."""
    height = HEAD + 2 * LANE + BETWEEN + BELOW
    parts = [part for row, panel in enumerate(PANELS) for part in _panel(*panel, top=row * height)]
    bottom = len(PANELS) * height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{bottom}" fill="#ffffff"/>',
            f'<clipPath id="shown"><rect x="{LEFT}" width="{WIDTH - LEFT - 10}" height="{bottom}"/></clipPath>',
            '<marker id="head" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
            '<path d="M0 0L7 3L0 6z" fill="#4b5563"/></marker>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(name: str, words: str, line: Timeline, top: float) -> Iterator[str]:
    yield _text(10, top + 18, name, size=14, anchor="start", bold=True)
    yield _text(10, top + 36, words, size=12, anchor="start", colour="#4b5563")
    lanes = [top + HEAD, top + HEAD + LANE + BETWEEN]
    for worker in WORKERS:
        yield _text(10, lanes[worker] + LANE / 2 + 4, f"worker {worker}", size=12, anchor="start")
    yield '<g clip-path="url(#shown)">'
    for span in line.spans:
        yield from _box(span, lanes[span.worker])
    for number, leaves, arrives in line.messages:
        yield from _message(number, leaves, arrives, lanes[0] + LANE, lanes[1])
    yield "</g>"


def _box(span: Span, y: float) -> Iterator[str]:
    fill, outline = COLOURS[span.what]
    x, width = _x(span.begin), UNIT * (span.end - span.begin)
    dashes = ' stroke-dasharray="3 3"' if span.what == "waits" else ""
    yield (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{LANE}" fill="{fill}" stroke="{outline}"{dashes}/>'
    )
    label = f"{span.what} {span.number}" if span.what in ("forward", "backward") else span.what
    if width > 5 * len(span.what):
        yield _text(x + width / 2, y + LANE / 2 + 3.5, label, size=10)


def _message(number: int, leaves: float, arrives: float, upper: float, lower: float) -> Iterator[str]:
    begin, end, middle = _x(leaves), _x(arrives), (upper + lower) / 2
    for start, stop in ((upper, lower), (lower, upper)):
        yield (
            f'<path d="M{begin:.1f} {start:.1f}L{end:.1f} {stop:.1f}" stroke="#4b5563" fill="none"'
            ' marker-end="url(#head)"/>'
        )
    x = (begin + end) / 2
    yield f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="8" fill="#ffffff" stroke="#4b5563"/>'
    yield _text(x, middle + 3.5, str(number), size=10)


def _x(time: float) -> float:
    return LEFT + UNIT * time


def _text(
    x: float, y: float, words: str, *, size: int, anchor: str = "middle", bold: bool = False, colour: str = "#1c1c1c"
) -> str:
    weight = "bold" if bold else "normal"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="{colour}">{words}</text>'
    )


def main() -> None:
    """Write the drawing."""
    PICTURE.write_text(drawing(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Command lines made by chance: each is composed, or refused in one sentence with exit code 2, in reasonable time.

Lines follow Hydra's grammar, with words and values that people mistype: wrong types, numbers out of all bounds, quotes
and escapes, interpolations, sweeps. Some have characters changed. All end in ``dry_run=true``: nothing is started.

More of them: ``SGP_FUZZ_CASES=1000 pytest tests/fuzz/test_command_lines.py``; ``SGP_FUZZ_SEED`` chooses others.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.config.hydra_errors import find_known_settings
from launcher.config.manual import Manual
from launcher.config.schema import SECTIONS
from tests.support.launched import Said

SEED = int(os.environ.get("SGP_FUZZ_SEED", 0))
CASES = int(os.environ.get("SGP_FUZZ_CASES", 16))
LONGEST_S = 60
"""Only guards against hanging."""


def _words(text: str) -> list[str]:
    return text.split()


NUMBERS = [
    *_words("0 -1 1 2 3 7 0.1 -0.5 1.5 .5 5. 1e-3 1e3 1e21 -1e21 1e-320 1_000 inf -inf nan NaN 1e400 4294967296"),
    *_words("9223372036854775808 18446744073709551616 0x10 007 1/3 10**9 100000 1e +5 --5 1,5"),
    *("9" * 40, "9" * 5000),
]
TEXTS = [
    *_words(
        r"""x Größe 日本 👍 ~/x /dev/null .. . a/b C:\x a:b a=b = %s {} [] () null none true false True yes ??? 0.1s"""
    ),
    *_words(
        r"""${seed} ${x} \${x} '\${x}' '${x}' ${ } ${oc.env:HOME} ${oc.env:NO_SUCH} ${training} ${name} ${.x} $HOME"""
    ),
    *_words(
        r"""${oc.decode:'['} ${now:x} " ' 'a'b' "a a\ \ \\ a;b a#b ! & | < > `ls` $(ls) * ? @ ^ , ,, a, ,a - -- +"""
    ),
    *("", "a b", "a\tb", "a\nb", "\x00", "\x1b[31m", "\ud800", "x" * 3000, "__class__"),
]
LISTS = _words("[1,2] [ ] [[1],[2]] [a,null,1.5] {a:1} {a:{b:c}} {a} {:} [1,] [inf] [${x}] {1:2}")
SWEEPS = [
    *_words("1,2 a,b range(1,3) range(1,1e9) range(0,1,0) range(3) range(1,0) range(0,1,-1) range(a,b) range(0,inf)"),
    *_words("range(nan,1) range(1,2,1e-300) choice(1,2) choice() choice(range(1,3)) glob(*) glob(r*) glob()"),
    *_words("interval(0,1) interval(1,0) interval(0.1,inf) tag(log,interval(0.1,1)) tag(a,1) tag(log,interval(0,1))"),
    *_words("sort(3,1,2) sort(range(1,1e9)) sort(a,1) shuffle(1,2) shuffle(range(1,1e9)) int(3.7) int(a) float(3)"),
    *_words("str([1,2]) bool(2) extend_list(1) json_str({a:1}) foo(1) int(1,2)"),
]
FLAGS = [
    *_words("-m --multirun -x --lr=0.1 --cfg --cfg=job -c --resolve --config-name=x --config-dir=x --package=x -- -"),
    *_words("--- --info=config --epochs --run -r --experimental-rerun=x -mm"),
]
SOUND = _words("0 1 2 5 16 0.1 0.9 1e-4 true false null x my-run '\\${x}' [1,2] [] {} 1,2 range(1,3) choice(1,2)")
"""Values that many settings take."""
NAMES = _words("lr foo.bar hydra.run.dir a.b.c.d x@y a/b")
PYTHONS_WORDS = re.compile(
    "Traceback|NoneType|object has no|is not iterable|can only concatenate|object_type|full_key|digits\\(\\)"
)
"""Parts of messages that explain nothing to a user."""


@contextmanager
def end_after(seconds: float, what: str) -> Iterator[None]:
    """Raise TimeoutError inside of the block once it has lasted ``seconds``."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(what)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class CommandLines:
    """A source of command lines."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._manual = Manual()
        self._groups = sorted(self._manual.groups)

    def make(self) -> list[str]:
        """Return the words of a command line."""
        chosen = [
            f"{group}={self._choice(group)}" for group in self._some(self._groups, self._dice.choice([0, 0, 1, 2]))
        ]
        known = find_known_settings(chosen)
        settings = [name for name in known.values if not name.startswith("hydra")]
        names = self._dice.sample(settings, self._dice.choice([1, 1, 2]))
        words = [*chosen, *(self._setting(name, known.values[name]) for name in names)]
        if self._happens(0.3):
            words.append("-m")
        if self._happens(0.1):
            words += ["-m", f"search={self._dice.choice(['random', 'tpe', 'none'])}"]
        words += self._some(FLAGS, 1) if self._happens(0.1) else []
        words = [self._damage(word) if self._happens(0.04) else word for word in words]
        self._dice.shuffle(words)
        return [*words, "cluster.device=cpu", "dry_run=true"]

    def _setting(self, name: str, usual: Any) -> str:
        if self._happens(0.05):
            name = self._dice.choice([*self._groups, *SECTIONS, *NAMES])
        values = self._dice.choices([NUMBERS, TEXTS, LISTS, SWEEPS], [4, 3, 1, 1])[0]
        if self._happens(0.4):
            values = SOUND
        elif self._happens(0.7):  # of the right type, mostly
            values = NUMBERS if isinstance(usual, int | float) else LISTS if isinstance(usual, list | dict) else TEXTS
        value = self._dice.choice(values)
        if self._happens(0.05):
            value = f"{value},{self._dice.choice(values)}"
        prefix = self._dice.choice(["+", "++", "~"]) if self._happens(0.05) else ""
        return f"{prefix}{name}={value}" if prefix != "~" or self._happens(0.5) else f"~{name}"

    def _damage(self, word: str) -> str:
        place = self._dice.randrange(len(word) + 1)
        new = self._dice.choice(
            ["", "=", ",", "'", '"', "\\", "[", "{", "(", "$", ".", "@", "ä", " ", ":", "~", "\x00"]
        )
        return word[:place] + new + word[place + self._dice.randint(0, 2) :]

    def _choice(self, group: str) -> str:
        return self._dice.choice(["rng", "null", "3"] if self._happens(0.05) else self._manual.choices(group))

    def _some(self, words: list[str], most: int) -> list[str]:
        return self._dice.sample(words, self._dice.randint(0, most))

    def _happens(self, probability: float) -> bool:
        return self._dice.random() < probability


@pytest.mark.parametrize("number", range(CASES))
def test_a_command_line_is_composed_or_refused_in_one_sentence(
    number: int, here: Path, sgp_train: Callable[..., Said]
) -> None:
    line = CommandLines(SEED + number).make()
    with end_after(LONGEST_S, f"still composing: {line}"):
        said = sgp_train(*line)
    assert said.code in (0, 2), (line, said)
    assert list(here.iterdir()) == [], line
    if said.code == 2:
        assert re.fullmatch(r"sgp-train: [^\n]{5,2000}\n", said.err), (line, said.err)
        assert not PYTHONS_WORDS.search(said.err), (line, said.err)

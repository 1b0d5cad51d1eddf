"""Numbers of a column stand below one another."""

from __future__ import annotations

import pytest

from launcher.report.html.alignment import align


def pad(digits: str) -> str:
    return f'<span class="pad" aria-hidden="true">{digits}</span>'


@pytest.mark.parametrize(
    ("texts", "aligned"),
    [
        (["4.54", "50.8", "118"], ["4.54", f"50.8{pad('0')}", f"118{pad('.00')}"]),
        (["1,200", "40"], ["1,200", "40"]),
        (["9.22 MB", "13.8 MB", "1 MB"], ["9.22 MB", f"13.8{pad('0')} MB", f"1{pad('.00')} MB"]),
        (["9.22 MB", "231 kB"], ["9.22 MB", "231 kB"]),
        (["3.3e-3", "–", "2 min 05 s", "8.4 s"], ["3.3e-3", "–", "2 min 05 s", "8.4 s"]),
        (["<1"], ["&lt;1"]),
        ([], []),
    ],
)
def test_decimal_points_stand_below_one_another(texts: list[str], aligned: list[str]) -> None:
    assert align(texts) == aligned

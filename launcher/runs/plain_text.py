"""Text of run folders as a terminal may show it: whoever wrote it must not command the terminal."""

from __future__ import annotations


def clean(words: str) -> str:
    """Return words on one line and without control characters."""
    return "".join(character if character.isprintable() else " " for character in words)


def clean_line(line: str) -> str:
    """Return a line of a log without control characters; tabs stay, and each escape becomes visible."""
    return "".join(
        character if character.isprintable() or character == "\t" else repr(character)[1:-1] for character in line
    )


def shorten(words: str, most: int) -> str:
    """Return at most so many characters of words; dots stand for the rest."""
    return words if len(words) <= most else f"{words[: most - 4]} ..."

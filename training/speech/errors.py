"""Word errors: the least number of words to substitute, remove or add (Levenshtein, 1966)."""

from __future__ import annotations

from collections.abc import Sequence


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """How many changes turn `said` into `heard`."""
    row = list(range(len(heard) + 1))  # of the words so far, against each beginning of `heard`
    for index, word in enumerate(said, 1):
        diagonal, row[0] = row[0], index
        for at, other in enumerate(heard, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (word != other))
    return row[-1]

"""How much of a sentence training saw: the share of its pairs of words that are known.

A pair is two neighbouring words, or the sentence's edge and a word; Chinese counts by character. Each known
pair is kept as 32 bits of a hash, so that a foreign one is taken for known once in some 100,000.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.translation.text import words


class Familiarity:
    """The pairs of words that training saw.

    Args:
        hashes: sorted, of any length.
    """

    def __init__(self, hashes: NDArray[np.int64]) -> None:
        self.hashes = hashes
        self._known = frozenset(hashes.tolist())

    @classmethod
    def of(cls, sentences: Iterable[tuple[str, str]]) -> Familiarity:
        """What `(language, normalised sentence)`s are made of."""
        seen: set[int] = set()
        for language, sentence in sentences:
            seen.update(_pairs(language, words(sentence)))
        return cls(np.array(sorted(seen), dtype=np.int64))

    def measure(self, language: str, sentence: str) -> float:
        """The share of a normalised sentence's pairs that are known, from 0 to 1."""
        hits = [key in self._known for key in _pairs(language, words(sentence))]
        return sum(hits) / len(hits)


def _pairs(language: str, split: list[str]) -> Iterator[int]:
    edged = ["^", *split, "$"]
    return (_hash(f"{language} {left} {right}") for left, right in pairwise(edged))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())

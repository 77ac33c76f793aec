"""How much of a sentence training saw: the shares of its words, and of pairs of them, that are known.

A pair is two neighbouring words, or the sentence's edge and a word; Chinese counts by character. Each known
word and pair is kept as 32 bits of a hash, so that a foreign one is taken for known once in some 100,000.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.translation.text import words


@dataclass(frozen=True, slots=True)
class Familiar:
    """Shares from 0 to 1."""

    words: float
    pairs: float


class Familiarity:
    """The words and pairs of words that training saw.

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
            split = words(sentence)
            seen.update(_words(language, split))
            seen.update(_pairs(language, split))
        return cls(np.array(sorted(seen), dtype=np.int64))

    def measure(self, language: str, sentence: str) -> Familiar:
        """How familiar a normalised sentence is."""
        split = words(sentence)
        return Familiar(self._share(_words(language, split)), self._share(_pairs(language, split)))

    def _share(self, hashes: Iterator[int]) -> float:
        hits = [key in self._known for key in hashes]
        return sum(hits) / len(hits) if hits else 0.0


def _words(language: str, split: list[str]) -> Iterator[int]:
    return (_hash(f"{language} {word}") for word in split)


def _pairs(language: str, split: list[str]) -> Iterator[int]:
    edged = ["^", *split, "$"]
    return (_hash(f"{language} {left} {right}") for left, right in pairwise(edged))


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())

"""The vectors of phrases that models embedded before, so that a caller's labels are read once.

Bounded: the phrase that was not asked for longest goes first. A model's version never changes, so its
vectors stay true.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

MOST = 4096  # phrases; of 512 numbers each they take 8 MB


class PhraseMemory:
    """Unit vectors [dimension] by model and phrase."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()

    def known(self, model: str, phrases: list[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those of `phrases` that are known."""
        found = {}
        for phrase in phrases:
            vector = self._vectors.get((model, phrase))
            if vector is not None:
                self._vectors.move_to_end((model, phrase))
                found[phrase] = vector
        return found

    def keep(self, model: str, phrase: str, vector: NDArray[np.float32]) -> None:
        """Remembers a phrase's vector."""
        self._vectors[model, phrase] = vector
        if len(self._vectors) > self._most:
            self._vectors.popitem(last=False)

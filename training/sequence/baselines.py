"""What a sequential model has to beat: scorers that count.

Each takes histories and gives a float array (histories, items), higher is likelier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Scorer = Callable[[Sequence[Sequence[int]]], Scores]


def popularity(histories: Sequence[Sequence[int]], items: int) -> NDArray[np.int64]:
    """(items,) how many readers took each item."""
    return np.bincount(np.concatenate([np.asarray(each) for each in histories]), minlength=items)


def by_popularity(histories: Sequence[Sequence[int]], items: int) -> Scorer:
    """What most readers took, whoever asks."""
    counts = popularity(histories, items).astype(np.float32)
    return lambda asked: np.tile(counts, (len(asked), 1))


def by_co_occurrence(histories: Sequence[Sequence[int]], items: int) -> Scorer:
    """Item-to-item: the cosine of the sets of readers of two items, summed over the asker's history."""
    together = np.zeros((items, items), np.float32)
    for history in histories:
        together[np.ix_(history, history)] += 1
    counts = np.maximum(np.diag(together), 1)
    np.fill_diagonal(together, 0)
    cosine = together / np.sqrt(np.outer(counts, counts))
    return lambda asked: np.stack([cosine[list(each)].sum(0) for each in asked])


def by_last_item(histories: Sequence[Sequence[int]], items: int) -> Scorer:
    """First-order Markov chain: what came right after the asker's last item; ties by popularity."""
    after = np.zeros((items, items), np.float32)
    for history in histories:
        np.add.at(after, (history[:-1], history[1:]), 1)
    counts = popularity(histories, items)
    after += counts / (counts.max() + 1)  # below 1, so that it only breaks ties
    return lambda asked: np.stack([after[each[-1]] for each in asked])

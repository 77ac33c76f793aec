"""Leave-one-out measurement over the whole catalogue: is the item that a reader took next in the top ten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.sequence.baselines import Scorer, Scores


@dataclass(frozen=True, slots=True)
class Hits:
    """Figures from 0 to 1, higher is better."""

    hr10: float  # share of readers whose next item is among the first ten
    ndcg10: float  # the same, each hit weighted by 1 / log2(rank + 1)


def leave_one_out(scorer: Scorer, readers: Sequence[Sequence[int]], *, keep: int | None = None) -> Hits:
    """Hides each reader's last item and ranks it among all items that the reader did not have.

    Args:
        keep: how many items before the hidden one the scorer is shown, the latest ones; all if None.
    """
    shown = [history[:-1] for history in readers]
    scores = scorer([history[-keep:] for history in shown] if keep else shown)
    return hits(scores, shown, [history[-1] for history in readers])


def hits(scores: Scores, seen: Sequence[Sequence[int]], hidden: Sequence[int]) -> Hits:
    """The figures of `scores` (readers, items); ties count against the scorer."""
    ranks = np.empty(len(hidden))
    for row, (history, target) in enumerate(zip(seen, hidden, strict=True)):
        others = scores[row].copy()
        others[list(history)] = -np.inf
        others[target] = -np.inf
        ranks[row] = 1 + np.count_nonzero(others >= scores[row, target])
    in_ten = ranks <= 10
    return Hits(float(in_ten.mean()), float(np.where(in_ten, 1 / np.log2(ranks + 1), 0).mean()))

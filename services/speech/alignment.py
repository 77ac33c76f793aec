"""When each token was said: dynamic time warping over a decoder's cross-attention.

The attention of the alignment heads is standardised over the tokens, smoothed over time by a median and
averaged; the cheapest monotonous path through its negative then meets each token at a time, as Whisper's
own word timestamps do (openai/whisper, timing.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def token_steps(attention: Floats, median_width: int) -> npt.NDArray[np.intp]:
    """The step at which each token's path begins.

    Args:
        attention: [heads, tokens, steps], at least one of each.
        median_width: odd; in steps.

    Returns:
        [tokens], never falling.
    """
    mean = attention.mean(axis=-2, keepdims=True)
    deviation = attention.std(axis=-2, keepdims=True)
    even = (attention - mean) / np.where(deviation > 0, deviation, 1)
    return warp(-smoothed(even, median_width).mean(axis=0, dtype=np.float64))


def smoothed(values: Floats, width: int) -> Floats:
    """The median of `width` neighbours along the last axis, mirrored at its ends; as it is if shorter."""
    margin = width // 2
    if values.shape[-1] <= margin:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(margin, margin)], mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1)


def warp(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Where the cheapest path through `cost` [rows, columns] from corner to corner enters each row.

    The table is filled along its antidiagonals, each of which depends on the two before it only.

    Returns:
        [rows] columns, the first 0, never falling.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    moves = np.full((rows + 1, columns + 1), 2, np.int8)  # 0 both, 1 to the next row, 2 to the next column
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        move = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        total[i, j] = cost[i - 1, j - 1] + np.choose(move, (both, down, right))
        moves[i, j] = move
    moves[:, 0] = 1
    moves[0, :] = 2
    entered = np.zeros(rows, np.intp)
    i, j = rows, columns
    while i > 0 or j > 0:
        if i > 0:
            entered[i - 1] = max(j - 1, 0)
        move = moves[i, j]
        i, j = i - (move != 2), j - (move != 1)
    return entered

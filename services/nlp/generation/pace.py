"""How many prompt tokens a step reads: as many as keep the step short for those who write.

    tokens to read = longest_s / (seconds per token, moving mean of steps that read) - tokens written

within bounds: fewer would not be worth reading the weights for, more would gain nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_FEWEST, _MOST = 64, 512  # the fewest before a step was measured, too
_SMOOTHING = 0.2  # weight of the newest step


class Pace:
    """Learns what a token takes.

    Args:
        longest_s: seconds that a step should take at most; between two of them callers join and leave.
        clock: seconds.
    """

    def __init__(self, *, longest_s: float = 0.15, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._longest_s = longest_s
        self._token_s = 0.0

    def budget(self, written: int) -> int:
        """Prompt tokens to read in a step that writes `written` tokens beside them."""
        if not self._token_s:
            return _FEWEST
        return max(_FEWEST, min(_MOST, int(self._longest_s / self._token_s) - written))

    def learn(self, read: int, written: int, elapsed_s: float) -> None:
        """Takes in a measured step; one that reads little tells of weights more than of tokens."""
        if read < _FEWEST or elapsed_s <= 0:
            return
        sample = elapsed_s / (read + written)
        self._token_s += (sample - self._token_s) * (_SMOOTHING if self._token_s else 1.0)

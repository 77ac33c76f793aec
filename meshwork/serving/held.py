"""How long a call waits for a process that does not run: stopped, starved of its cores, or blocked.

::

    held = sum of lag^2 / 2 / span

the mean wait of a call that comes at any moment, where the event loop was late by *lag* again and again
within *span* seconds. The least of the last LOOKS spans counts, so that one pause (a collection, a model
that is loaded) is none; and less than LEAST_S is none, since a busy machine gives every process that.
A forward pass of microseconds is seldom under way when its process is stopped, so its own time does not
tell this.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SPAN_S = 0.9  # the least; a lease is renewed each second
LOOKS = 3
LEAST_S = 0.025


class Held:
    """Takes in how late the event loop is, and gives what that costs a call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._squares = 0.0
        self._spans: deque[float] = deque([0.0] * LOOKS, maxlen=LOOKS)

    def late(self, lag_s: float) -> None:
        """The loop woke a sleeper `lag_s` seconds too late."""
        self._squares += lag_s * lag_s

    def look(self) -> float:
        """Seconds that a call waits at the process's pace of now; 0 for one that runs well."""
        span_s = self._clock() - self._since
        if span_s >= SPAN_S:
            self._spans.append(self._squares / 2 / span_s)
            self._since, self._squares = self._clock(), 0.0
        least_s = min(self._spans)
        return least_s if least_s >= LEAST_S else 0.0

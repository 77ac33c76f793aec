"""What a model's batches cost on a device, learned from measured batches; nothing is set by hand.

Batches are sorted into bins by their cost, a factor of two each, and each bin keeps a moving mean of

    rate = seconds of a batch / its cost

The *budget* is the least batch cost that is as good as any: the top of the smallest bin whose rate is
within 5 % of the best. While the largest bin seen is still better than those below it, the next
larger one may be tried; and now and then it is tried again, since a machine changes. A batch is never
planned to hold the device for longer than `longest_s`, so that urgent work waits for one at most.
"""

from __future__ import annotations

import math

_SMOOTHING = 0.2  # weight of the newest batch in a bin's rate
_AS_GOOD = 1.05  # a rate this near to the best is as good
_TRY_EVERY = 32  # batches after which a larger one may be tried again
_FIRST_ITEMS = 8  # items' worth of the first batch, when nothing is known


class CostModel:
    """The learned cost of one model's batches on one device.

    Args:
        longest_s: seconds that a batch should hold the device at most.
    """

    def __init__(self, *, longest_s: float = 0.1) -> None:
        self._longest_s = longest_s
        self._rates: dict[int, float] = {}  # bin -> seconds per unit of cost
        self._batches = 0
        self._best = 0.0
        self._budget = 0.0

    @property
    def known(self) -> bool:
        """Whether any batch was measured."""
        return bool(self._rates)

    def learn(self, cost: float, elapsed_s: float) -> None:
        """Takes in one measured batch."""
        if cost <= 0 or elapsed_s <= 0:
            return
        index = _bin(cost)
        sample = elapsed_s / cost
        known = self._rates.get(index)
        self._rates[index] = sample if known is None else known + (sample - known) * _SMOOTHING
        self._batches += 1
        self._best = min(self._rates.values())
        self._budget = self._planned()

    def _planned(self) -> float:
        largest = max(self._rates)
        good = min(index for index, rate in self._rates.items() if rate <= self._best * _AS_GOOD)
        if good == largest or self._batches % _TRY_EVERY == 0:
            good = max(good, largest) + 1
        return 2.0 ** (good + 1)

    def budget(self, first: float) -> float:
        """The cost to fill a batch up to, whose first item costs `first`."""
        if not self._rates:
            return first * _FIRST_ITEMS
        return min(self._budget, self._longest_s / self._best)

    def seconds(self, cost: float) -> float:
        """How long one batch of `cost` is expected to take at least; 0 while nothing is known."""
        if not self._rates or cost <= 0:
            return 0.0
        index = _bin(cost)
        nearest = min(self._rates, key=lambda known: abs(known - index))
        return self._rates[nearest] * cost

    def queue_seconds(self, cost: float) -> float:
        """How long a queue of `cost` will keep the device, batched as well as it can be."""
        return self._best * cost


def _bin(cost: float) -> int:
    return math.floor(math.log2(cost))

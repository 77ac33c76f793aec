"""What a model's batches cost on a device, learned from measured batches; nothing is set by hand.

Batches are sorted into bins by their cost, a factor of two each:

    seconds of a batch = its cost x rate of its bin x pace

The *rates* are the curve's shape, and belong to the model; the *pace* is how the device is doing now,
and belongs to all bins alike. A batch that takes longer than that tells of both: while its bin is new,
of the rate, later of the pace. So a device that becomes slow is slow for batch sizes too that it has
not seen since, and what a lone item needs says what a full batch would.

The *budget* is the least batch cost that is as good as any: the top of the smallest bin whose rate is
within 5 % of the best. While the largest bin seen is still better than those below it, the next
larger one may be tried; and now and then it is tried again, since a machine changes. A batch is never
planned to hold the device for longer than `longest_s`, so that urgent work waits for one at most.
"""

from __future__ import annotations

import math

_SMOOTHING = 0.2  # weight of the newest batch in the pace
_SMOOTHING_FAR = 0.6  # of one that says again that the pace is another
_FAR = 1.5  # times: so much longer, or shorter, than expected says so
_SHAPE = 0.005  # the least weight of the newest batch in its bin's rate
_MOST = 5.0  # times longer than expected; more tells no more
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
        self._pace = 1.0
        self._far = 0  # 1 or -1 if the last batch was far longer or shorter than expected
        self._rates: dict[int, float] = {}  # bin -> seconds per unit of cost, at pace 1
        self._seen: dict[int, int] = {}  # bin -> batches
        self._batches = 0
        self._best = 0.0
        self._budget = 0.0

    @property
    def known(self) -> bool:
        """Whether any batch was measured."""
        return bool(self._rates)

    @property
    def best_rate(self) -> float:
        """Seconds per unit of cost in batches as good as any, as the device is doing now; 0 if unknown."""
        return self._best * self._pace

    def learn(self, cost: float, elapsed_s: float) -> None:
        """Takes in one measured batch."""
        if cost <= 0 or elapsed_s <= 0:
            return
        index = _bin(cost)
        sample = elapsed_s / cost
        self._batches += 1
        seen = self._seen[index] = self._seen.get(index, 0) + 1
        if seen == 1:
            self._rates[index] = sample / self._pace
        else:
            times = min(sample / (self._rates[index] * self._pace), _MOST)
            far = (times > _FAR) - (times * _FAR < 1.0)
            smoothing = _SMOOTHING_FAR if far and far == self._far else _SMOOTHING
            shape = max(1.0 / seen, _SHAPE)
            self._far = far
            self._rates[index] *= 1.0 + shape * (times - 1.0)
            self._pace *= 1.0 + smoothing * (1.0 - shape) * (times - 1.0)
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
        return min(self._budget, self._longest_s / self.best_rate)

    def seconds(self, cost: float) -> float:
        """How long one batch of `cost` is expected to take at least; 0 while nothing is known."""
        if not self._rates or cost <= 0:
            return 0.0
        index = _bin(cost)
        nearest = min(self._rates, key=lambda known: abs(known - index))
        return self._rates[nearest] * self._pace * cost

    def queue_seconds(self, cost: float) -> float:
        """How long a queue of `cost` will keep the device, batched as well as it can be."""
        return self.best_rate * cost


def _bin(cost: float) -> int:
    return math.floor(math.log2(cost))

"""What a replica says of a model's speed in its lease: figures that move in steps.

::

    item_ms      = best rate of the device x mean cost of an item + held (see held.py)
    capacity_rps = sum over the model's devices of 1 / (seconds of an item) / items of a call

Every change of a lease goes to every router and every client, so a steady replica must not change
its own: the figures are smoothed, stand on a grid of geometric steps, and leave their place on it
only for one that is clearly nearer (hysteresis).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEP = 1.25
_STAY = 1.0  # steps: a value no farther keeps its place
_NEWEST, _NEWEST_FAR = 0.2, 0.6  # weight of the newest second; of one that is far off
_FAR = 1.4  # times
MEAN = 0.05  # weight of the newest batch, call or answer in a mean


def stepped(value: float, shown: float, step: float = STEP) -> float:
    """`value` on the grid of powers of `step`, or `shown` if that is near enough; 0 stays 0."""
    if value <= 0:
        return 0.0
    if shown > 0 and abs(math.log(value / shown, step)) <= _STAY:
        return shown
    return float(f"{step ** round(math.log(value, step)):.4g}")


def moved(mean: float, newest: float) -> float:
    """A mean that takes the newest value in; the first is taken as it is."""
    return mean + (newest - mean) * MEAN if mean else newest


def _smoothed(mean: float, newest: float) -> float:
    if not mean:
        return newest
    far = not 1 / _FAR < newest / mean < _FAR
    return mean + (newest - mean) * (_NEWEST_FAR if far else _NEWEST)


@dataclass(slots=True)
class Speed:
    """One model's figures, as its lease shows them."""

    item_ms: float = 0.0
    capacity_rps: float = 0.0
    _item_s: float = 0.0
    _rps: float = 0.0

    def take(self, items_s: Iterable[float], call_items: float, held_s: float = 0.0) -> None:
        """Takes in a new look, about once a second.

        Args:
            items_s: for each device of the model the seconds that an item takes; 0 if not known.
            call_items: items that a call brings.
            held_s: seconds that a call waits because the process does not run.
        """
        every = list(items_s)
        known = [seconds for seconds in every if seconds > 0]
        if not known:
            return
        rps = math.fsum(1 / seconds for seconds in known) * len(every) / len(known) / max(call_items, 1.0)
        self._item_s = _smoothed(self._item_s, math.fsum(known) / len(known))
        self._rps = _smoothed(self._rps, rps)
        self.item_ms = stepped((self._item_s + held_s) * 1000, self.item_ms)
        self.capacity_rps = stepped(self._rps, self.capacity_rps)

"""The calls of a model through the day before: what comes every day at this time is no news."""

from __future__ import annotations

SLOT_S = 300.0
SLOTS = int(86400 / SLOT_S)
SLACK = 0.9  # of yesterday's


class Day:
    """Rates by time of day, the last day's, in slots of five minutes."""

    __slots__ = ("_count", "_days", "_sum", "_where")

    def __init__(self) -> None:
        self._days: dict[int, tuple[int, float]] = {}  # by slot: the day, and the mean rate then
        self._where: tuple[int, int] | None = None
        self._sum, self._count = 0.0, 0

    def saw(self, now: float, rate: float) -> None:
        """Takes in the calls a second at `now`, in seconds since 1970."""
        day, second = divmod(now, 86400)
        where = (int(day), int(second / SLOT_S))
        if where != self._where:
            if self._where is not None and self._count:
                self._days[self._where[1]] = (self._where[0], self._sum / self._count)
            self._where, self._sum, self._count = where, 0.0, 0
        self._sum += rate
        self._count += 1

    def between(self, now: float, usually: float) -> tuple[float, float]:
        """The least and the most calls a second to expect, where the last minutes had `usually`."""
        day, second = divmod(now, 86400)
        slot = int(second / SLOT_S)
        found = [self._days.get((slot + step) % SLOTS) for step in (-1, 0, 1)]
        rates = [each[1] for each in found if each is not None and day - each[0] in (1.0, 2.0)]
        if not rates:
            return usually, usually
        return min(usually, SLACK * min(rates)), max(usually, max(rates) / SLACK)

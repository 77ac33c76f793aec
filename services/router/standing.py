"""Whether what this router knows comes from Redis now; no input or output, the clock is handed in.

::

    fresh --can't be read--> stale since then --read again--> fresh, or
          --forgot, or was away, and leases are kept by grace--> stale until their replicas renew or lapse
"""

from __future__ import annotations

from collections.abc import Collection

from meshwork.router.v1 import router_pb2

_INFO, _WARNING, _ERROR = (
    router_pb2.EVENT_LEVEL_INFO,
    router_pb2.EVENT_LEVEL_WARNING,
    router_pb2.EVENT_LEVEL_ERROR,
)

# What happened: how much it matters and what it is, in a sentence.
Happened = tuple[router_pb2.EventLevel.ValueType, str]

_SHOWN = 5


class Standing:
    """Follows the readings of Redis.

    Attributes:
        stale: whether what is known may be old.
        since: since when it is as it is, in seconds of Unix time.
        problem: what is wrong; "" if nothing is.
    """

    def __init__(self, now: float) -> None:
        self.stale = True
        self.since = now
        self.problem = "Redis was not read yet"
        self._epoch = ""
        self._away = False
        self._heard = False

    def failed(self, error: object, now: float) -> list[Happened]:
        """Redis could not be read."""
        first = not self._away
        self._away = True
        self._enter(True, f"Redis does not answer: {error or type(error).__name__}", now, anew=first)
        return (
            [(_ERROR, f"Redis can't be read: {error}; traffic goes on with what is known")] if first else []
        )

    def heard(self, epoch: str, kept: Collection[str], now: float) -> list[Happened]:
        """Redis was read.

        Args:
            epoch: of the leases; another one than before means that Redis forgot.
            kept: replicas that are known of before and not from Redis now.
        """
        happened: list[Happened] = []
        if self._away and self._heard:
            happened.append((_INFO, f"Redis is back: it could not be read for {now - self.since:.0f} s"))
        if self._epoch and epoch != self._epoch:
            happened.append(
                (_WARNING, "Redis lost what it knew; replicas write their leases anew, those known are kept")
            )
        self._away, self._heard, self._epoch = False, True, epoch
        if kept:
            names = sorted(kept)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            told = f"Redis does not have the leases of {', '.join(names[:_SHOWN])}{more}"
            self._enter(True, f"{told}: kept for some seconds, until they renew", now)
        else:
            self._enter(False, "", now)
        return happened

    def message(self) -> router_pb2.StateStatus:
        """As the contract says it."""
        status = router_pb2.StateStatus(stale=self.stale, problem=self.problem)
        status.since.FromMilliseconds(int(self.since * 1000))
        return status

    def _enter(self, stale: bool, problem: str, now: float, *, anew: bool = False) -> None:
        if stale != self.stale or (anew and self._heard):
            self.since = now
        self.stale, self.problem = stale, problem

"""Which replicas hang, by the lateness of their leases; no input or output, the clock is handed in.

A replica renews its lease every second; one that is silent for SILENT_S while Redis hears others hangs, or is
cut off. That many are late at once says more about Redis, or about the one who looks, than about
them: when over half are, nobody is ejected, and nobody for SETTLE_S after that, nor after the
judge could not see. What was ejected stays so until it renews.
"""

from __future__ import annotations

from collections.abc import Mapping

SILENT_S = 2.2
SETTLE_S = 4.0
MOST = 0.5


class HungJudge:
    """Says who hangs.

    Attributes:
        hung: by replica, how long it is silent, in seconds.
    """

    def __init__(self, silent_s: float = SILENT_S, settle_s: float = SETTLE_S) -> None:
        self.silent_s = silent_s
        self._settle_s = settle_s
        self._blind_until = float("-inf")
        self.hung: dict[str, float] = {}

    def adopt(self, names: Mapping[str, float]) -> None:
        """Goes on from what another judge ejected."""
        self.hung = dict(names)

    def blind(self, now: float) -> None:
        """Redis could not be read, or not at once: for a while lateness says nothing."""
        self._blind_until = max(self._blind_until, now + self._settle_s)

    def judge(self, silent: Mapping[str, float], leases: int, now: float) -> None:
        """Takes in who is late.

        Args:
            silent: of the READY replicas that are silent for over `silent_s`: for how many seconds.
            leases: number of those that are not known to hang, late or not.
        """
        fresh = silent.keys() - self.hung.keys()
        if len(fresh) > MOST * leases:
            self.blind(now)
        self.hung = {
            name: for_s for name, for_s in silent.items() if name in self.hung or now >= self._blind_until
        }

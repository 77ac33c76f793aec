"""A replica's own measure of its load, and the ORCA report that carries it to whoever balances.

Weight of a replica = rate of answers / utilization (gRFC A58, "Client-side weighted round robin"),
so utilization must say how much of the replica one unit of traffic takes:

    utilization = (busy share of the devices over the last window + seconds of work that queue) / devices

The report is `xds.data.orca.v3.OrcaLoadReport`, encoded here by hand since it is four doubles.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

ORCA_TRAILER = "endpoint-load-metrics-bin"

# Field numbers of OrcaLoadReport, each a double (wire type 1).
_UTILIZATION, _RPS, _EPS, _APPLICATION = ((number << 3 | 1) for number in (5, 6, 7, 9))


def encode_report(*, utilization: float, rps: float, eps: float) -> bytes:
    """An OrcaLoadReport: utilization (0 or more; 1 is full), answers and errors a second."""
    fields = ((_UTILIZATION, min(utilization, 1.0)), (_RPS, rps), (_EPS, eps), (_APPLICATION, utilization))
    return b"".join(struct.pack("<Bd", tag, value) for tag, value in fields if value)


class LoadMeter:
    """Counts answers, errors and device time, and reports their rates.

    Rates are exponentially weighted over `window_s` seconds and updated at most every `step_s`.
    """

    def __init__(
        self, *, window_s: float = 1.0, step_s: float = 0.1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._step_s = step_s
        self._clock = clock
        self._since = clock()
        self._answers = 0
        self._errors = 0
        self._busy_s = 0.0
        self._busy_from: dict[str, float] = {}  # by device that works on a batch now
        self._queues: list[Callable[[], float]] = []
        self._rps = 0.0
        self._eps = 0.0
        self._busy_share = 0.0
        self._report = b""
        self.in_flight = 0  # calls that are being answered

    def add_device(self, queued_s: Callable[[], float]) -> None:
        """Counts a device in; `queued_s` tells the seconds of work that queue for it."""
        self._queues.append(queued_s)

    def answered(self, *, failed: bool) -> None:
        """Counts one answer."""
        self._answers += 1
        self._errors += failed

    def device_begins(self, device: str) -> None:
        """`device` starts on a batch."""
        self._busy_from[device] = self._clock()

    def device_ends(self, device: str) -> None:
        """`device` is done with its batch."""
        self._busy_s += self._clock() - self._busy_from.pop(device)

    def report(self) -> bytes:
        """The encoded ORCA report, at most `step_s` old."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= self._step_s or not self._report:
            for device, begun in self._busy_from.items():  # the part of a running batch that is behind us
                self._busy_s += now - begun
                self._busy_from[device] = now
            keep = 0.0 if elapsed >= self._window_s else 1.0 - elapsed / self._window_s
            span = max(elapsed, 1e-3)
            self._rps = keep * self._rps + (1 - keep) * self._answers / span
            self._eps = keep * self._eps + (1 - keep) * self._errors / span
            self._busy_share = keep * self._busy_share + (1 - keep) * self._busy_s / span
            self._answers = self._errors = 0
            self._busy_s = 0.0
            self._since = now
            self._report = encode_report(utilization=self.utilization, rps=self._rps, eps=self._eps)
        return self._report

    @property
    def utilization(self) -> float:
        """Mean over the devices of their busy share and of their queued seconds of work; never 0."""
        queued_s = sum(queued_s() for queued_s in self._queues)
        return max((self._busy_share + queued_s) / max(len(self._queues), 1), 1e-3)

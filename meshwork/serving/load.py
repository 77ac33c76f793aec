"""A replica's own measure of its load, and the ORCA report that carries it to whoever balances.

Weight of a replica = rate of answers / utilization (gRFC A58, "Client-side weighted round robin"):

    utilization = rate of answers x work of an answer x (1 + backlog / 50 ms) / ramp

*Work* is the device time that an answer takes in good batches, at the device's pace of now, on the
busiest device: measured work, not the process's CPU, nor the share of time that a device is busy. That
one is 1 as soon as small batches follow each other, and would give most to who has most. So weights
are the replicas' speeds, and hold still while these do: balancers spread calls by a schedule that a new
weight upsets. *Backlog* is the queue beyond what is usual, so that who is too slow for its share is
spared until it has caught up. *Ramp* lets a new replica come in slowly.

The report is `xds.data.orca.v3.OrcaLoadReport`, encoded here by hand since it is three doubles. Rates
are in thousandths, since Envoy keeps a weight as a whole number: one answer in 2 s would weigh 0.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Protocol

ORCA_TRAILER = "endpoint-load-metrics-bin"

# Field numbers of OrcaLoadReport, each a double (wire type 1).
_RPS, _EPS, _APPLICATION = ((number << 3 | 1) for number in (6, 7, 9))
_THOUSANDTHS = 1000.0

_WINDOW_S = 1.0  # of rates
_KEEP = 1 - 1 / 64  # of what is known about the mean answer, at each new one
_SAME = 0.07  # work that changed by less is as it was
_USUAL_S, _USUAL_ANSWERS = 0.03, 2.0  # queue that is usual: seconds, and answers' work on top
_BACKLOG_S = 0.05  # that halves the weight
_LEAST = 0.02  # of its weight that a replica keeps, so that it is asked now and then
_RAMP_S = 5.0  # from READY to the whole weight
_RAMP_FROM = 0.1


class Served(Protocol):
    """One model's work on one device."""

    @property
    def served_cost(self) -> float:
        """Cost of all that was served so far."""

    @property
    def rate_s(self) -> float:
        """Seconds per unit of cost in good batches, at the pace of now."""


class Watched(Protocol):
    """A device."""

    @property
    def work(self) -> Iterable[Served]:
        """What runs on it."""

    @property
    def name(self) -> str:
        """For example `cpu`."""

    @property
    def busy_s(self) -> float:
        """Seconds that it has worked so far."""

    def wait_s(self) -> float:
        """Seconds of work that it has before it."""


def encode_report(*, utilization: float, rps: float, eps: float) -> bytes:
    """An OrcaLoadReport: utilization (0 or more; 1 is full), answers and errors a second."""
    fields = ((_RPS, rps * _THOUSANDTHS), (_EPS, eps * _THOUSANDTHS), (_APPLICATION, utilization))
    return b"".join(struct.pack("<Bd", tag, value) for tag, value in fields if value)


class LoadMeter:
    """Counts answers, errors and work, and reports their rates, at most `step_s` old."""

    def __init__(self, *, step_s: float = 0.02, clock: Callable[[], float] = time.monotonic) -> None:
        self._step_s = step_s
        self._clock = clock
        self._since = clock()
        self._began = self._since
        self._answers = 0
        self._errors = 0
        self._devices: list[Watched] = []
        self._served: dict[Served, tuple[float, float]] = {}  # cost: at the last look, faded sum
        self._good = 0.0  # answers that were no errors, faded as their costs are
        self._rps = 0.0
        self._eps = 0.0
        self._work_s = 0.0
        self._report = b""
        self.in_flight = 0  # calls that are being answered

    def add_device(self, device: Watched) -> None:
        """Counts a device in."""
        self._devices.append(device)

    @property
    def devices(self) -> tuple[Watched, ...]:
        """The devices that were counted in."""
        return tuple(self._devices)

    def ready(self) -> None:
        """Says that the replica takes traffic from now on."""
        self._began = self._clock()

    def answered(self, *, failed: bool) -> None:
        """Counts one answer."""
        self._answers += 1
        self._errors += failed

    def report(self) -> bytes:
        """The encoded ORCA report; tells no utilization while no answer was measured."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= self._step_s or not self._report:
            self._look(max(elapsed, 1e-3))
            self._since = now
            self._report = encode_report(utilization=self.utilization, rps=self._rps, eps=self._eps)
        return self._report

    def _look(self, elapsed: float) -> None:
        """Takes in what happened since the last look."""
        keep = max(0.0, 1.0 - elapsed / _WINDOW_S)
        self._rps = keep * self._rps + (1 - keep) * self._answers / elapsed
        self._eps = keep * self._eps + (1 - keep) * self._errors / elapsed
        good = self._answers - self._errors
        faded = _KEEP**good
        self._good = faded * self._good + good
        served: dict[Served, tuple[float, float]] = {}
        longest = 0.0
        for device in self._devices:
            work_s = 0.0
            for each in device.work:
                total = each.served_cost
                before, cost = self._served.get(each, (0.0, 0.0))
                cost = faded * cost + total - before
                served[each] = total, cost
                work_s += cost * each.rate_s
            longest = max(longest, work_s)
        self._served = served
        self._answers = self._errors = 0
        if self._good and longest:
            work_s = longest / self._good
            if abs(work_s - self._work_s) > _SAME * self._work_s:
                self._work_s = work_s

    @property
    def utilization(self) -> float:
        """How full the replica is: 1 if its busiest device has no time left; more if work queues."""
        wait_s = max((device.wait_s() for device in self._devices), default=0.0)
        backlog_s = max(0.0, wait_s - _USUAL_S - _USUAL_ANSWERS * self._work_s)
        spared = max(_LEAST, 1 / (1 + backlog_s / _BACKLOG_S))
        ramp = min(1.0, max(_RAMP_FROM, (self._clock() - self._began) / _RAMP_S))
        return self._rps * self._work_s / (spared * ramp)

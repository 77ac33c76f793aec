"""What callers noticed of a fault: a pure function of the calls that they made.

::

    lost              calls that got an error, or no answer within their deadline
    out of rotation   the last moment at which a call was begun that the faulty replica answered, or that
                      took longer than max(0.25 s, 5 x p99 before the fault); or at which a gateway still
                      listed the replica among its healthy hosts; counted from the fault's beginning
    recovered         the end of the last call that was lost or took that long, counted likewise
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshwork.chaos.caller import OK, Call

SLOW_S, SLOW_FACTOR = 0.25, 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """When what happened, on the monotonic clock."""

    began: float  # the load, once warm
    broken: float  # the fault began
    mended: float  # it was taken back
    ended: float  # the last call was begun
    back: float = math.inf  # a new process of the faulty replica took its name
    listed_until: float = 0.0  # the last time that a gateway was seen to count the replica as healthy


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """Calls that were begun in one part of a run."""

    calls: int
    lost: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One fault, as callers saw it. Seconds count from the fault's beginning."""

    fault: str
    subject: str  # what was broken
    calls: int  # unary, in all
    lost: int
    streams: int
    streams_lost: int
    errors: dict[str, int] = field(default_factory=dict)  # "path Method CODE message" -> how many
    before: Phase
    during: Phase
    after: Phase
    worst_ms: float  # of all unary calls that were begun from the fault on
    out_of_rotation_s: float | None  # None where no replica was faulty
    recovered_s: float
    seconds: float  # that the fault lasted
    ejection: str = ""  # why routers took the replica out; "" if they did not


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of sorted `values` that at least `share` of them do not exceed; 0 if there is none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def _phase(calls: Iterable[Call]) -> Phase:
    found = list(calls)
    took = sorted(call.took_s for call in found)
    return Phase(
        calls=len(found),
        lost=sum(call.code != OK for call in found),
        p50_ms=round(percentile(took, 0.5) * 1e3, 1),
        p99_ms=round(percentile(took, 0.99) * 1e3, 1),
        worst_ms=round(took[-1] * 1e3, 1) if took else 0.0,
    )


def judge(
    fault: str,
    subject: str,
    victim: str,
    times: Times,
    calls: Iterable[Call],
    streams: Sequence[str],
    ejection: str = "",
) -> Report:
    """Counts.

    Args:
        victim: the faulty replica; "" if the fault is none of a replica.
        streams: names of the calls that are streams.
        ejection: why routers took the replica out; "" if they did not.
    """
    counted = [call for call in calls if times.began <= call.started <= times.ended]
    unary = [call for call in counted if call.name not in streams]
    flows = [call for call in counted if call.name in streams]
    before = _phase(call for call in unary if call.started < times.broken)
    since = [call for call in unary if call.started >= times.broken]
    slow_s = max(SLOW_S, SLOW_FACTOR * before.p99_ms / 1e3)
    noticed = [call for call in unary if call.code != OK or call.took_s > slow_s]
    # A call that was begun before the fault may be caught by it.
    noticed = [call for call in noticed if call.started + call.took_s >= times.broken]
    last_touched = max((call.started for call in noticed), default=times.broken)
    for call in counted:
        if call.replica == victim and times.broken <= call.started < min(times.mended, times.back):
            last_touched = max(last_touched, call.started)
    last_touched = max(last_touched, times.listed_until)
    return Report(
        fault=fault,
        subject=subject,
        calls=len(unary),
        lost=sum(call.code != OK for call in unary),
        streams=len(flows),
        streams_lost=sum(call.code != OK for call in flows),
        errors=dict(Counter(_named(call) for call in counted if call.code != OK).most_common(8)),
        before=before,
        during=_phase(call for call in since if call.started < times.mended),
        after=_phase(call for call in since if call.started >= times.mended),
        worst_ms=_phase(since).worst_ms,
        out_of_rotation_s=round(last_touched - times.broken, 2) if victim else None,
        recovered_s=round(
            max((call.started + call.took_s for call in noticed), default=times.broken) - times.broken, 2
        ),
        seconds=round(times.mended - times.broken, 1),
        ejection=ejection,
    )


def _named(call: Call) -> str:
    return f"{call.path} {call.name} {call.code} {call.message[:160]}"

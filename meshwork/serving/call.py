"""What the runtime knows of a call: how long it has, who makes it, and how much it matters.

Metadata that a caller may send: `meshwork-priority` (`interactive`, `default` or `batch`) and
`meshwork-caller`, the name under which it gets its fair share; without one, its address.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from opentelemetry import trace

from meshwork.errors import DeadlineExceeded, InvalidArgument
from meshwork.names import CALLER_HEADER, PRIORITY_HEADER

_FORWARDED = "x-forwarded-for"
_LONGEST_CALLER = 128  # characters


class Priority(enum.Enum):
    """How soon a call without a near deadline should be served; the value is seconds of patience.

    Work is taken in the order of `min(deadline, arrival + patience)`: interactive calls pass default
    ones, batch calls fill what is left, and nothing starves.
    """

    INTERACTIVE = 0.1
    DEFAULT = 1.0
    BATCH = 30.0


_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


class CallContext(Protocol):
    """What a call's context must tell: `grpc.aio.ServicerContext` does."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, None without one."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What the caller sent beside the request."""

    def peer(self) -> str:
        """The address of the connection's other end, for example `ipv4:10.0.0.5:41822`."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, until when, and how urgently."""

    deadline: float = math.inf  # on the monotonic clock
    caller: str = ""
    priority: Priority = Priority.DEFAULT
    span: trace.Span = trace.INVALID_SPAN  # of the call in its trace

    @classmethod
    def of(cls, context: CallContext) -> Self:
        """Reads a call's context.

        Raises:
            InvalidArgument: the priority is not one of ours.
        """
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        caller = forwarded = ""
        priority = Priority.DEFAULT
        for key, value in context.invocation_metadata() or ():
            if key == CALLER_HEADER:
                caller = str(value)
            elif key == _FORWARDED:
                forwarded = str(value).partition(",")[0]
            elif key == PRIORITY_HEADER:
                found = _PRIORITIES.get(str(value).lower())
                if found is None:
                    names = ", ".join(_PRIORITIES)
                    raise InvalidArgument(f"should be one of {names}, not {value!r}", field=PRIORITY_HEADER)
                priority = found
        caller = caller or forwarded or context.peer().rpartition(":")[0]
        return cls(deadline, caller[:_LONGEST_CALLER], priority, trace.get_current_span())

    def due(self, now: float) -> float:
        """When the work should be served, if it arrives `now`: see `Priority`."""
        return min(self.deadline, now + self.priority.value)

    def remaining_s(self) -> float | None:
        """Seconds that are left, None without a deadline.

        Raises:
            DeadlineExceeded: none are.
        """
        if self.deadline == math.inf:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the work was done")
        return left

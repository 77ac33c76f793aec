"""Names as they are compared and carried: the order of versions, and what travels beside a request."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

MODEL_HEADER = "x-meshwork-model"
"""Tells a proxyless channel's routes which model the request names; the gateway reads the body."""


PRIORITY_HEADER = "meshwork-priority"
"""How much a call matters: `interactive`, `default` or `batch`."""

CALLER_HEADER = "meshwork-caller"
"""The name under which a call gets its fair share of a device."""

IDEMPOTENCY_HEADER = "meshwork-idempotency"
"""`1` says that the request carries a `request_id`, so that it may arrive twice."""
TRACE_HEADER = "meshwork-trace"
"""Beside an answer that the gateway itself gave: the call's `traceparent`, or the gateway's id for it."""


@lru_cache(maxsize=65536)
def header_value(model: str) -> str:
    """`model` as it stands in the header: what may not stand in one, percent-encoded; cut at 256."""
    return quote(model, safe="-._~@/+")[:256]


def trace_id(text: str) -> str:
    """The trace's id in a `traceparent` (W3C Trace Context); another text as it is."""
    parts = text.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else text


def version_order(version: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key by which the highest version is the live one: `2` < `10` < `10.1`."""
    pieces = re.findall(r"\d+|\D+", version)
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces], version

"""Logs: one line an event, JSON in files and colour on a terminal.

Every line says when (UTC), how much it matters, which process, and within a call which trace. Payloads
and secrets are never logged. `MESHWORK_LOG_LEVEL` is the level at the start (`INFO`), and
`MESHWORK_LOG_FORMAT` is `json`, `console`, or `auto`: by whether a terminal reads.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshwork.spans import trace_id

LEVELS = ("debug", "info", "warning", "error")
_FIRST = ("time", "level", "process", "event", "trace_id", "logger", "exception")


def start(process: str) -> None:
    """Logs to standard error from now on, each line naming `process`, for example `nlp-4f7a`."""
    import structlog

    def named(_: Any, __: str, event: Any) -> Any:
        event["process"] = process
        if found := trace_id():
            event["trace_id"] = found
        return event

    as_json = os.environ.get("MESHWORK_LOG_FORMAT", "auto")
    for_people = as_json == "console" or (as_json != "json" and sys.stderr.isatty())
    known: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        named,
    ]
    rendered: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")]
        if for_people
        else [structlog.processors.format_exc_info, _ordered, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=known,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=os.environ.get("MESHWORK_LOG_LEVEL", "INFO").upper(), handlers=[handler])


def _ordered(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """For those who read JSON by eye."""
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log.

    Attributes:
        time: as ISO 8601; "" if it does not say.
        text: for people, its exception behind it.
    """

    time: str
    text: str
    level: str = ""
    process: str = ""
    trace_id: str = ""


def read(line: str) -> Line:
    """Understands a line that `start` made; any other is kept as it is."""
    try:
        known = json.loads(line) if line.startswith("{") else None
    except ValueError:
        known = None
    if not isinstance(known, dict) or not isinstance(known.get("event"), str):
        return Line("", line)
    text = "\n".join(str(known[name]) for name in ("event", "exception") if known.get(name))
    said = {name: str(known.get(name, "")) for name in ("time", "level", "process", "trace_id")}
    return Line(said["time"], text, said["level"], said["process"], said["trace_id"])


def readable(lines: list[str]) -> Iterator[str]:
    """The lines as people read them."""
    for line in lines:
        known = read(line)
        stamp = f"{known.time[11:23]} {known.level.upper()} " if known.time else ""
        yield from (stamp + known.text).splitlines()


def said(log: str, words: str) -> str:
    """What stands behind `words` in the first line of a whole log that has them; "" if none has."""
    for line in log.splitlines():
        _, found, rest = read(line).text.partition(words)
        if found:
            return rest.strip()
    return ""

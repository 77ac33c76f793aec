"""A trace as a waterfall: what was done where, when, and for how long."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from meshwork.trace.v1 import trace_pb2

NARROWEST = 10  # columns of the bars
_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
# Said elsewhere in the picture, or of no use to a reader.
_UNSHOWN = (
    "rpc.system",
    "rpc.service",
    "rpc.method",
    "meshwork.replica",
    "telemetry.",
    "thread.",
    "component",
)


def head(found: trace_pb2.GetTraceResponse) -> Text:
    """The trace in one line: its id, how long it took, and the colours of its services."""
    line = Text.assemble((found.summary.trace_id, "bold"), f"  {_ms(found.summary.duration)}  ")
    return line.append(
        Text("  ").join(Text(f"■ {name}", colour) for name, colour in _colours(found.summary).items())
    )


def _colours(summary: trace_pb2.TraceSummary) -> dict[str, str]:
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(summary.services)}


def waterfall(found: trace_pb2.GetTraceResponse, *, width: int, facts: bool = False) -> Table:
    """The spans, one below the other, each with its bar.

    Args:
        width: of the bars, in columns.
        facts: whether each span's attributes, events and links are shown too.
    """
    colours = _colours(found.summary)
    begin = found.summary.start_time.ToNanoseconds()
    whole = max(found.summary.duration.ToNanoseconds(), 1)
    depths: dict[str, int] = {}
    table = Table("SPAN", "WHERE", "TOOK", "", **_PLAIN)
    for span in found.spans:
        depth = depths[span.span_id] = depths.get(span.parent_span_id, -1) + 1
        colour = colours.get(span.service, "white")
        start = span.start_time.ToNanoseconds() - begin
        left = min(width - 1, int(start / whole * width))
        length = max(1, min(width - left, round(span.duration.ToNanoseconds() / whole * width)))
        name = Text(
            "  " * depth + span.name.removeprefix("meshwork."), style="bold red" if span.failed else ""
        )
        if span.error:
            name.append(f"  {span.error}", style="red")
        table.add_row(
            name,
            Text(span.instance or span.service, style=colour),
            Text(_ms(span.duration), justify="right"),
            Text(" " * left + "█" * length, style="red" if span.failed else colour),
        )
        if facts:
            for line in _facts(span, begin):
                table.add_row(Text("  " * depth + "    " + line, style="dim"))
    return table


def _facts(span: trace_pb2.Span, begin: int) -> list[str]:
    lines = [
        f"{name} = {value}"
        for name, value in sorted(span.attributes.items())
        if not name.startswith(_UNSHOWN)
    ]
    for event in span.events:
        at_ms = (event.time.ToNanoseconds() - begin) / 1e6
        words = " ".join(f"{name}={value}" for name, value in sorted(event.attributes.items()))
        lines.append(f"at {at_ms:.1f} ms: {event.name} {words}".rstrip())
    return [*lines, *(f"linked to span {link.span_id} of {link.trace_id}" for link in span.links)]


def _ms(duration: Any) -> str:
    return f"{duration.ToNanoseconds() / 1e6:,.2f} ms"

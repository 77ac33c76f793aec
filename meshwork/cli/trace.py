"""`meshwork trace`: finds a call's trace and draws where its time went."""

from __future__ import annotations

from typing import Any

import rich_click as click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from meshwork import client
from meshwork.cli.console import as_data, json_option, out, print_json, reports_errors, running_mesh
from meshwork.trace.v1 import trace_pb2

SLOW_MS = 1000
_NARROWEST = 10  # columns of the waterfall
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

router_option = click.option(
    "--router",
    envvar="MESHWORK_ROUTER",
    default="",
    metavar="HOST:PORT",
    help="A router of the mesh. By default that of the mesh that runs here.",
)


def router_address(address: str) -> str:
    """The router to ask: the one given, else that of the mesh that runs here."""
    return address or running_mesh()[1].router


@click.group()
def trace() -> None:
    """Find a call's trace and see where its time went.

    The mesh keeps its last traces, those of failed and slow calls longest. `meshwork call --trace`
    prints the trace of a call, every error names its own, and a `traceparent` that a client sends is
    kept to.

    \b
    Examples:
      meshwork trace ls --slow
      meshwork trace ls --errors --service nlp
      meshwork trace show 0af7651916cd43dd8448eb211c80319c
    """


@trace.command("ls")
@click.option("--slow", is_flag=True, help=f"Only those of at least {SLOW_MS} ms, or of --min-ms.")
@click.option("--min-ms", type=click.IntRange(min=0), default=None, help="Only those that took as long.")
@click.option("--errors", is_flag=True, help="Only those in which something failed.")
@click.option("--service", default="", help="Only those that this service took part in, or `gateway`.")
@click.option("-n", "--lines", type=click.IntRange(1, 1000), default=20, show_default=True)
@router_option
@json_option
@reports_errors
def list_traces(
    slow: bool, min_ms: int | None, errors: bool, service: str, lines: int, router: str, as_json: bool
) -> None:
    """List the traces that are kept, the newest first."""
    least = min_ms if min_ms is not None else SLOW_MS if slow else 0
    request = trace_pb2.ListTracesRequest(
        page_size=lines, service=service, failed=errors, min_duration_ms=least
    )
    with client.connect(router_address(router), timeout_s=10) as mesh:
        traces = mesh.trace._unary("ListTraces", request, trace_pb2.ListTracesResponse, None).traces
    if as_json:
        print_json([as_data(each) for each in traces])
        return
    table = Table("TRACE", "BEGAN", "TOOK", "SPANS", "SERVICES", "CALL", **_PLAIN)
    for each in traces:
        table.add_row(
            each.trace_id,
            each.start_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3],
            f"{each.duration.ToMilliseconds():,} ms",
            str(each.spans),
            " ".join(each.services),
            Text(each.name, style="red" if each.failed else ""),
        )
    out.print(table if traces else "No trace fits.")


@trace.command()
@click.argument("trace_id")
@click.option("--facts", is_flag=True, help="Show each span's attributes, events and links too.")
@router_option
@json_option
@reports_errors
def show(trace_id: str, facts: bool, router: str, as_json: bool) -> None:
    """Draw a trace as a waterfall: what was done where, when, and for how long.

    TRACE_ID is a trace's id, a `traceparent`, or the `x-request-id` that the gateway gave the call.
    """
    with client.connect(router_address(router), timeout_s=10) as mesh:
        found = mesh.trace.get_trace(trace_id)
    if as_json:
        print_json(as_data(found))
        return
    summary = found.summary
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(summary.services)}
    legend = "  ".join(f"[{colour}]■ {escape(name)}[/]" for name, colour in colours.items())
    out.print(f"[bold]{summary.trace_id}[/]  {_ms(summary.duration)}  {legend}\n")
    out.print(_waterfall(found, colours, facts))


def _waterfall(found: trace_pb2.GetTraceResponse, colours: dict[str, str], facts: bool) -> Table:
    begin = found.summary.start_time.ToNanoseconds()
    whole = max(found.summary.duration.ToNanoseconds(), 1)
    width = max(_NARROWEST, out.width // 3)
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

"""`meshwork trace`: finds a call's trace and draws where its time went."""

from __future__ import annotations

from typing import Any

import rich_click as click
from rich.table import Table
from rich.text import Text

from meshwork import client
from meshwork.cli.console import (
    as_data,
    json_option,
    out,
    print_json,
    reports_errors,
    router_address,
    router_option,
)
from meshwork.cli.waterfall import NARROWEST, head, waterfall
from meshwork.trace.v1 import trace_pb2

SLOW_MS = 1000
_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}


@click.group()
def trace() -> None:
    """Find a call's trace and see where its time went.

    The mesh keeps its last traces: all of failed and slow calls, some of the others. `meshwork call --trace`
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
@click.option("--replica", default="", help="Only those that this replica, or router, took part in.")
@click.option("-n", "--lines", type=click.IntRange(1, 1000), default=20, show_default=True)
@router_option
@json_option
@reports_errors
def list_traces(
    slow: bool,
    min_ms: int | None,
    errors: bool,
    service: str,
    replica: str,
    lines: int,
    router: str,
    as_json: bool,
) -> None:
    """List the traces that are kept, the newest first."""
    least = min_ms if min_ms is not None else SLOW_MS if slow else 0
    request = trace_pb2.ListTracesRequest(
        page_size=lines, service=service, instance=replica, failed=errors, min_duration_ms=least
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
    out.print(head(found))
    out.print()
    out.print(waterfall(found, width=max(NARROWEST, out.width // 3), facts=facts))

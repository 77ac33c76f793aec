"""`meshwork events`: what happened in the mesh, and what happens."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import rich_click as click
from rich.text import Text

from meshwork.channel import authority, target
from meshwork.cli.console import (
    address_option,
    as_data,
    gateway_address,
    json_option,
    out,
    print_json,
    reports_errors,
)
from meshwork.cli.tables import clock
from meshwork.errors import from_rpc_error
from meshwork.router.v1 import router_pb2
from meshwork.router.v1.router_pb2_grpc import RouterServiceStub

TIMEOUT_S = 10.0
MOST_A_PAGE = 1000

_COLOURS = {"info": "", "warning": "yellow", "error": "bold red"}


@click.command()
@click.argument("service", default="")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 10_000), default=50, show_default=True, help="Events of the past."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they happen; Ctrl-C ends.")
@click.option("--subject", default="", metavar="NAME", help="Only of this replica, router or client.")
@address_option
@json_option
@reports_errors
def events(service: str, lines: int, follow: bool, subject: str, address: str, as_json: bool) -> None:
    """Show what happened in the mesh and why, the latest last, all or of one SERVICE.

    Kinds: replica_up, replica_down, replica_draining, replica_ejected (kept from traffic: hung or
    slow), replica_returned, model (loaded, failed, ...), leader (another router leads), router_up,
    router_down, rejected (a client refuses what discovery sent it), state (Redis away, back, or
    emptied), operator (what somebody did), anomaly. The last 10,000 or so are kept, in Redis.

    \b
    Examples:
      meshwork events
      meshwork events nlp -f
      meshwork events --subject nlp-1 -n 5
      meshwork events -f --json          one JSON object a line
    """
    try:
        with grpc.insecure_channel(
            target(gateway_address(address)), options=authority(gateway_address(address))
        ) as channel:
            stub = RouterServiceStub(channel)
            # The watch begins before the past is read, so that nothing falls between.
            coming = stub.WatchEvents(router_pb2.WatchEventsRequest(service=service)) if follow else None
            if coming is not None:
                coming.initial_metadata()
            past = latest(stub, lines, service=service, subject=subject)
            if as_json and not follow:
                print_json([as_data(event) for event in past])
                return
            for event in past:
                _show(event, as_json=as_json)
            known = {event.id for event in past}
            for response in coming or ():
                event = response.event
                if event.id not in known and subject in ("", event.subject):
                    _show(event, as_json=as_json)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
    except KeyboardInterrupt:
        return


def latest(
    stub: RouterServiceStub, count: int, *, service: str = "", subject: str = ""
) -> list[router_pb2.Event]:
    """The last `count` events, the latest last.

    Raises:
        RpcError: the router does not answer, or Redis does not.
    """
    found: list[router_pb2.Event] = []
    token = ""
    while len(found) < count:
        request = router_pb2.ListEventsRequest(
            service=service,
            subject=subject,
            page_size=min(count - len(found), MOST_A_PAGE),
            page_token=token,
        )
        page = stub.ListEvents(request, timeout=TIMEOUT_S)
        found += page.events
        token = page.next_page_token
        if not token:
            break
    return found[::-1]


def lines_of(events: list[router_pb2.Event]) -> Iterator[Text]:
    """A line each: when, how bad, what kind, of whom, what, and the traces that show it."""
    for event in events:
        level = router_pb2.EventLevel.Name(event.level).removeprefix("EVENT_LEVEL_").lower()
        kind = router_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
        about = event.subject or event.service
        shown = f"; traces: {', '.join(event.trace_ids)}" if event.trace_ids else ""
        line = Text(f"{clock(event.time)}  {level:<7}  {kind:<16}  {about:<20}  {event.message}{shown}")
        line.stylize(_COLOURS.get(level, ""))
        yield line


def _show(event: router_pb2.Event, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(as_data(event), ensure_ascii=False))
        return
    for line in lines_of([event]):
        out.print(line, soft_wrap=True)

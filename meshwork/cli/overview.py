"""What `meshwork status` says of the control plane: how fresh, which routers, who is ejected, warnings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from rich.markup import escape
from rich.table import Table

from meshwork.channel import authority, target
from meshwork.cli.events import latest
from meshwork.cli.tables import clock, ejection_reason
from meshwork.errors import from_rpc_error
from meshwork.router.v1 import router_pb2
from meshwork.router.v1.router_pb2_grpc import RouterServiceStub

TIMEOUT_S = 3.0
LOOKED_AT = 200  # events among which the warnings are looked for
WARNINGS = 5
RECENT_S = 3600.0


@dataclass(kw_only=True, slots=True)
class Overview:
    """What the routers say; what they could not is empty.

    Attributes:
        problem: why no router could be asked.
    """

    replicas: list[router_pb2.Replica] = field(default_factory=list)
    mesh: router_pb2.GetMeshResponse | None = None
    warnings: list[router_pb2.Event] = field(default_factory=list)
    problem: str = ""


def look(router: str) -> Overview:
    """Asks the router (or the first that answers of several, by comma) for what it knows."""
    seen = Overview()
    with grpc.insecure_channel(target(router), options=authority(router)) as channel:
        stub = RouterServiceStub(channel)
        try:
            request = router_pb2.ListReplicasRequest(page_size=1000)
            while not seen.replicas or request.page_token:
                page = stub.ListReplicas(request, timeout=TIMEOUT_S)
                seen.replicas += page.replicas
                request.page_token = page.next_page_token
                if not page.replicas:
                    break
            seen.mesh = stub.GetMesh(router_pb2.GetMeshRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            why = from_rpc_error(error)
            seen.problem = f"the router does not answer ({why}); calls go on with what the gateway knows"
            return seen
        if not seen.mesh.state.stale:
            try:
                events = latest(stub, LOOKED_AT)
            except grpc.RpcError:
                return seen  # Redis went away just now, as the next look will say
            since = time.time() - RECENT_S
            bad = [
                event
                for event in events
                if event.level > router_pb2.EVENT_LEVEL_INFO and event.time.seconds >= since
            ]
            seen.warnings = bad[-WARNINGS:]
    return seen


def alarms(seen: Overview) -> Iterator[str]:
    """What must be seen first, as rich markup: a router that is away, state that is stale."""
    if seen.problem:
        yield f"[yellow]{escape(seen.problem)}[/]"
    if seen.mesh is not None and seen.mesh.state.stale:
        state = seen.mesh.state
        yield (
            f"[bold red]State is stale since {clock(state.since)}:[/] {escape(state.problem)}. "
            "Calls go on with what was known then."
        )


def routers_table(mesh: router_pb2.GetMeshResponse) -> Table:
    """One row a router."""
    plain: dict[str, Any] = {"box": None, "pad_edge": False}
    table = Table("ROUTER", "ADDRESS", "GATEWAY", "SNAPSHOT", "HOST", "PID", "UP SINCE", "LEADS", **plain)
    for router in mesh.routers:
        table.add_row(
            escape(router.name),
            escape(router.address),
            escape(router.gateway),
            router.snapshot_version,
            escape(router.host),
            str(router.pid),
            clock(router.start_time),
            "leader" if router.leader else "",
        )
    return table


def scraped_at(mesh: router_pb2.GetMeshResponse) -> list[str]:
    """`host:port` at which Prometheus finds all there is to scrape: of each router, any will do."""
    return [router.http_address for router in mesh.routers if router.http_address]


def ejected(replicas: list[router_pb2.Replica]) -> Iterator[str]:
    """A line for each replica that is kept from traffic, as rich markup."""
    for replica in replicas:
        if replica.HasField("ejection"):
            each = replica.ejection
            ruled = "; overruled: too many of its peers are out, it takes traffic all the same"
            yield (
                f"[red]{escape(replica.name)}[/] {ejection_reason(each)} since {clock(each.since)}: "
                f"{escape(each.detail)}{ruled if each.overruled else ''}"
            )

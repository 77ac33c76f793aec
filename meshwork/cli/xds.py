"""`meshwork xds`: what the routers tell Envoy and gRPC clients, and how each of them took it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import rich_click as click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from meshwork import client
from meshwork.admin.v1 import admin_pb2
from meshwork.cli.console import as_data, err, json_option, out, print_json, reports_errors, router_address
from meshwork.errors import MeshworkError, Unavailable

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}
# What people call the types of resources.
_KINDS = {
    "Cluster": "clusters",
    "ClusterLoadAssignment": "endpoints",
    "Listener": "listeners",
    "RouteConfiguration": "routes",
}


@click.command()
@click.option("--resources", is_flag=True, help="List the resources of the snapshot too.")
@click.option(
    "--name", "part", default="", metavar="TEXT", help="Show the resources whose name has this in it, whole."
)
@click.option(
    "--router", default="", metavar="HOST:PORT", help="Ask this router. By default all of the mesh's here."
)
@json_option
@reports_errors
def xds(resources: bool, part: str, router: str, as_json: bool) -> None:
    """Show what discovery tells Envoy and gRPC clients, and how each took it.

    Every router is asked: its snapshot, and the clients that are connected to it, with what they
    rejected and why.

    \b
    Examples:
      meshwork xds
      meshwork xds --resources
      meshwork xds --name nlp/minilm
    """
    answers: dict[str, admin_pb2.GetDiscoveryResponse] = {}
    problems: dict[str, str] = {}
    for address in router_address(router).split(","):
        try:
            with client.connect(address, timeout_s=10) as mesh:
                # Contents are large: only of what was asked for.
                answers[address] = mesh.admin.get_discovery(resources=bool(part), name_contains=part)
        except MeshworkError as error:
            problems[address] = str(error)
    if as_json:
        data = [as_data(answer) for answer in answers.values()]
        print_json({"routers": data, "problems": problems})
    else:
        for answer in answers.values():
            _show(answer, listed=resources or bool(part))
        for address, problem in problems.items():
            err.print(f"[yellow]the router at {address} does not answer: {escape(problem)}[/]")
        versions = {answer.version for answer in answers.values()}
        if len(versions) > 1:
            err.print(f"[yellow]the routers serve {len(versions)} snapshots that differ[/]")
    if not answers:
        raise Unavailable("no router of the mesh answers; calls go on with what the gateway knows")


def _show(answer: admin_pb2.GetDiscoveryResponse, *, listed: bool) -> None:
    counts = dict.fromkeys(_KINDS, 0)
    for resource in answer.resources:
        counts[resource.type] += 1
    total = ", ".join(f"{count} {_KINDS[kind]}" for kind, count in counts.items())
    about = f"generation {answer.generation}, snapshot {answer.version}"
    out.print(f"Router [bold]{escape(answer.router)}[/]: {about}: {total}")
    out.print()
    out.print(clients_table(answer))
    for line in rejections(answer):
        out.print(line)
    if listed:
        out.print()
        out.print(_resources_table(answer))
    for resource in answer.resources:
        if resource.content:
            out.print(f"\n[bold]{resource.type} {escape(resource.name)}[/]")
            out.print_json(json.dumps(json.loads(resource.content)))


def clients_table(answer: admin_pb2.GetDiscoveryResponse) -> Table:
    """One row a client: who it is, how it is served, what it holds, and whether it is up to date."""
    table = Table("CLIENT", "SOFTWARE", "GETS", *map(str.upper, _KINDS.values()), "ACKS", "STATE", **_PLAIN)
    for each in answer.clients:
        held = {subscription.type: subscription.sent for subscription in each.subscriptions}
        table.add_row(
            escape(each.node),
            escape(each.user_agent),
            "changes" if each.incremental else "all",
            *(str(held.get(kind, "")) for kind in _KINDS),
            str(each.acks),
            _state(answer, each),
        )
    return table


def _state(answer: admin_pb2.GetDiscoveryResponse, each: admin_pb2.DiscoveryClient) -> Text:
    if any(subscription.rejected for subscription in each.subscriptions):
        return Text("rejects", style="red")
    if not each.generation:
        return Text("loading", style="yellow")
    behind = answer.generation - each.generation
    return Text(f"{behind} behind", style="yellow") if behind else Text("up to date", style="green")


def rejections(answer: admin_pb2.GetDiscoveryResponse) -> Iterator[str]:
    """What clients rejected and why, a line each, as rich markup."""
    for each in answer.clients:
        for subscription in each.subscriptions:
            if subscription.rejected:
                names = " ".join([subscription.type, ", ".join(subscription.rejected_names)]).rstrip()
                what = f"{each.node} rejects {names}"
                yield f"[red]{escape(what)}:[/] {escape(subscription.rejected)}"


def _resources_table(answer: admin_pb2.GetDiscoveryResponse) -> Table:
    table = Table("TYPE", "NAME", "VERSION", "BYTES", **_PLAIN)
    for resource in answer.resources:
        table.add_row(resource.type, escape(resource.name), resource.version[:16], str(resource.size_bytes))
    return table

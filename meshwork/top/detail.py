"""All that there is to say of one replica: where it runs, why it is ejected, its models, its events."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meshwork.cli.events import lines_of
from meshwork.cli.tables import clock, ejection_reason, model_state, replica_state, size, state_text
from meshwork.router.v1 import router_pb2
from meshwork.top.view import Picture, Row, number

EVENTS = 8


def detail(picture: Picture, row: Row) -> Group:
    """What is known of the replica of `row`."""
    replica = next((each for each in picture.replicas if each.name == row.replica), None)
    events = [each for each in picture.events if each.subject == row.replica][-EVENTS:]
    parts: list[RenderableType] = []
    if replica is None:
        parts.append(Text.assemble((row.replica, "bold"), " holds no lease any more", style="red"))
    else:
        parts += [*_about(replica), Text(), _models(picture, replica)]
    parts += [Text("\nWhat happened", style="bold"), *lines_of(events)] if events else []
    return Group(*parts)


def _about(replica: router_pb2.Replica) -> Iterator[Text]:
    state = replica_state(replica.state)
    yield Text.assemble((replica.name, "bold"), f" of {replica.service}, ", state_text(state))
    if replica.HasField("ejection"):
        each = replica.ejection
        yield Text(
            f"kept from traffic as {ejection_reason(each)} since {clock(each.since)}: {each.detail}"
            + ("; overruled, too many of its peers are out" if each.overruled else ""),
            style="yellow" if each.overruled else "bold red",
        )
    zone = f", zone {replica.zone}" if replica.zone else ""
    yield Text(f"{replica.address} on {replica.host or '?'}, pid {replica.pid}{zone}")
    metrics = f"; http://{replica.http_address}/metrics" if replica.http_address else "; serves no metrics"
    yield Text(
        f"{', '.join(replica.devices)}; release {replica.release or '?'}, up since "
        f"{clock(replica.start_time)}{metrics}"
    )


def _models(picture: Picture, replica: router_pb2.Replica) -> Table:
    loads = {each.model: each for each in picture.load.loads if each.replica == replica.name}
    heads = ("MODEL", "STATE", "CALLS/S", "P50ms", "P99ms", "QUEUE", "WAITms", "BATCH", "RUNms", "MEMORY")
    table = Table(box=None, pad_edge=False)
    for index, title in enumerate(heads):
        table.add_column(title, justify="right" if index > 1 else "left", no_wrap=True)
    for model in replica.models:
        name = f"{model.name}@{model.version}"
        load = loads.get(name, router_pb2.Load())
        figures = (
            load.calls_rps,
            load.p50_ms,
            load.p99_ms,
            load.queued_items,
            load.queue_ms,
            load.batch_items,
            load.compute_ms,
        )
        cells = [Text(number(figure)) for figure in figures]
        table.add_row(
            Text(name), state_text(model_state(model.state)), *cells, Text(size(model.memory_bytes))
        )
    return table

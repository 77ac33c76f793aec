"""From what a router says to the rows that are shown: pure functions.

Three views have the same columns, so that one sort and one filter serve all: replicas, models of a
service, and services. Figures are of the last seconds, as WatchLoad of RouterService gives them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from rich.text import Text

from meshwork.cli.console import CONTROLS
from meshwork.cli.tables import COLOURS, clock, ejection_reason, replica_state
from meshwork.router.v1 import router_pb2

READY = router_pb2.REPLICA_STATE_READY
# Of a replica that needs so many times what the median of its peers needs, the figure is shown in red.
STRIKING, STRIKING_LEAST_MS = 3.0, 5.0
_TOLD = {
    router_pb2.EVENT_KIND_ANOMALY,
    router_pb2.EVENT_KIND_REPLICA_EJECTED,
    router_pb2.EVENT_KIND_REPLICA_RETURNED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What a router said at one moment.

    Attributes:
        events: the latest last.
    """

    mesh: router_pb2.GetMeshResponse
    replicas: tuple[router_pb2.Replica, ...]
    load: router_pb2.WatchLoadResponse
    events: tuple[router_pb2.Event, ...] = ()


class View(Enum):
    """What a row is about."""

    REPLICAS = "replicas"
    MODELS = "models"
    SERVICES = "services"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        service, replica, model: what it is about; a replica's row has no model, a model's no replica.
        striking: whether it is much slower than its peers.
    """

    service: str
    replica: str = ""
    model: str = ""
    state: str
    style: str = ""
    device: str = ""
    load: router_pb2.Load = field(default_factory=router_pb2.Load)
    striking: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.replica or self.model or self.service

    @property
    def key(self) -> str:
        """Tells it from all other rows."""
        return f"{self.service}/{self.replica}/{self.model}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, its width in columns of the terminal, what it shows and what it sorts by."""

    head: str
    width: int
    text: Callable[[Row], str]
    value: Callable[[Row], str | float]
    numeric: bool = True


COLUMNS = (
    Column("NAME", 20, lambda row: row.name, lambda row: row.key, numeric=False),
    Column("STATE", 8, lambda row: row.state, lambda row: row.state, numeric=False),
    Column("CALLS/S", 8, lambda row: number(row.load.calls_rps), lambda row: row.load.calls_rps),
    Column("ERR/S", 6, lambda row: number(row.load.errors_rps), lambda row: row.load.errors_rps),
    Column("P50ms", 6, lambda row: number(row.load.p50_ms), lambda row: row.load.p50_ms),
    Column("P99ms", 6, lambda row: number(row.load.p99_ms), lambda row: row.load.p99_ms),
    Column("QUEUE", 6, lambda row: number(row.load.queued_items), lambda row: row.load.queued_items),
    Column("BATCH", 6, lambda row: number(row.load.batch_items), lambda row: row.load.batch_items),
    Column("BUSY", 5, lambda row: f"{row.load.busy_share:.0%}", lambda row: row.load.busy_share),
    Column(" DEVICE", 8, lambda row: f" {row.device}", lambda row: row.device, numeric=False),
)
WIDTH = sum(column.width for column in COLUMNS)  # fits a terminal of 80 columns beside a scroll bar
SORTS = tuple(column for column in COLUMNS if column.head not in ("STATE", " DEVICE"))


def number(value: float) -> str:
    """A figure in at most 5 columns, `.` for none."""
    if value <= 0:
        return "."
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    for unit in ("", "k", "M"):
        if value < 9999.5 or (not unit and value < 99999.5):
            return f"{value:.0f}{unit}"
        value /= 1000
    return "lots"


def rows(picture: Picture, view: View) -> list[Row]:
    """The rows of a view, by service and name."""
    load = {(each.service, each.replica, each.model): each for each in picture.load.loads}
    silent = set(picture.load.silent_replicas)
    if view is View.REPLICAS:
        found = [_replica(each, load.get((each.service, each.name, "")), silent) for each in picture.replicas]
        return _mark(sorted(found, key=lambda row: row.key))
    grouped: dict[tuple[str, str], list[router_pb2.Replica]] = {}
    ready: dict[tuple[str, str], int] = {}
    for replica in picture.replicas:
        for key, works in _parts(replica, view):
            grouped.setdefault(key, []).append(replica)
            ready[key] = ready.get(key, 0) + works
    return [
        Row(
            service=service,
            model=model,
            state=f"{ready[service, model]}/{len(members)}",
            style="green" if ready[service, model] == len(members) else "yellow",
            device=_devices(members, model),
            load=load.get((service, "", model), router_pb2.Load()),
        )
        for (service, model), members in sorted(grouped.items())
    ]


def _parts(replica: router_pb2.Replica, view: View) -> Iterator[tuple[tuple[str, str], bool]]:
    """What a replica counts towards, and whether it takes traffic there."""
    works = replica.state == READY and (not replica.HasField("ejection") or replica.ejection.overruled)
    if view is View.SERVICES:
        yield (replica.service, ""), works
        return
    for model in replica.models:
        named = f"{model.name}@{model.version}"
        yield (replica.service, named), works and model.state == router_pb2.MODEL_STATE_READY


def _devices(members: Iterable[router_pb2.Replica], model: str) -> str:
    found = {
        device
        for replica in members
        for device in (
            [each.device for each in replica.models if f"{each.name}@{each.version}" == model]
            if model
            else replica.devices
        )
    }
    return ",".join(sorted(found))


def _replica(replica: router_pb2.Replica, load: router_pb2.Load | None, silent: set[str]) -> Row:
    state = replica_state(replica.state)
    style = COLOURS.get(state, "")
    if replica.HasField("ejection"):
        state = ejection_reason(replica.ejection)[:8]
        style = "yellow" if replica.ejection.overruled else "bold red"
    elif replica.name in silent:
        state, style = "silent", "yellow"
    return Row(
        service=replica.service,
        replica=replica.name,
        state=state,
        style=style,
        device=",".join(replica.devices),
        load=load or router_pb2.Load(),
    )


def _mark(found: list[Row]) -> list[Row]:
    """The rows of replicas, those marked that are much slower than the median of their peers."""
    marked = []
    for row in found:
        peers = [each.load for each in found if each.service == row.service and each.replica != row.replica]
        worse = _stands_out(row.load.p50_ms, [each.p50_ms for each in peers]) or _stands_out(
            row.load.p99_ms, [each.p99_ms for each in peers]
        )
        marked.append(replace(row, striking=worse))
    return marked


def _stands_out(own_ms: float, others_ms: Iterable[float]) -> bool:
    others = [each for each in others_ms if each > 0]
    usual = statistics.median(others) if others else 0.0
    return usual > 0 and own_ms >= max(STRIKING * usual, usual + STRIKING_LEAST_MS)


def in_order(found: Iterable[Row], sort: Column, *, falling: bool) -> list[Row]:
    """The rows by a column; those that are equal by name."""
    return sorted(sorted(found, key=lambda row: row.key), key=sort.value, reverse=falling)


def fitting(found: Iterable[Row], words: str, serving: Iterable[router_pb2.Replica] = ()) -> list[Row]:
    """The rows that have every word in their service, name, state, device, or a replica in its models."""
    models = {
        replica.name: " ".join(f"{each.name}@{each.version}" for each in replica.models)
        for replica in serving
    }
    wanted = words.lower().split()
    return [
        row
        for row in found
        if all(
            word in f"{row.key} {row.state} {row.device} {models.get(row.replica, '')}".lower()
            for word in wanted
        )
    ]


def cells(row: Row) -> list[Text]:
    """A row as the table shows it."""
    shown = []
    for column in COLUMNS:
        style = row.style if column.head == "STATE" else ""
        if row.striking and column.head in ("P50ms", "P99ms"):
            style = "bold red"
        if column.head == "ERR/S" and row.load.errors_rps > 0:
            style = "red"
        text = Text(
            column.text(row).translate(CONTROLS),
            style,
            no_wrap=True,
            justify="right" if column.numeric else "left",
        )
        # A name that fills its column would touch the next.
        text.truncate(column.width - (not column.numeric), overflow="ellipsis")
        shown.append(text)
    return shown


def notable(events: Iterable[router_pb2.Event], count: int) -> list[router_pb2.Event]:
    """The last `count` anomalies, ejections, returns and warnings, the latest last."""
    found = [event for event in events if event.kind in _TOLD or event.level > router_pb2.EVENT_LEVEL_INFO]
    return found[-count:]


def brief(event: router_pb2.Event) -> Text:
    """An event in one line, as much of it as fits."""
    kind = router_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").removeprefix("REPLICA_").lower()
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{clock(event.time)} {kind} {event.subject or event.service} {event.message}")
    line.stylize("" if event.level <= router_pb2.EVENT_LEVEL_INFO else "yellow")
    return line


def summary(picture: Picture) -> str:
    """The mesh in one line."""
    total = [each for each in picture.load.loads if not each.replica and not each.model]
    ready = sum(each.state == READY for each in picture.replicas)
    out = sum(each.HasField("ejection") and not each.ejection.overruled for each in picture.replicas)
    parts = [f"{ready}/{len(picture.replicas)} replicas ready"]
    if out:
        parts.append(f"{out} ejected")
    if picture.load.window_s:
        parts.append(f"{sum(each.calls_rps for each in total):,.1f} calls/s")
        parts.append(f"{sum(each.errors_rps for each in total):,.1f} errors/s")
        parts.append(f"over {picture.load.window_s:.0f} s")
    else:
        parts.append("measuring")
    return ", ".join(parts)

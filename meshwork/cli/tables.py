"""The tables that `up`, `status` and `models` show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from meshwork.router.v1 import router_pb2
from meshwork.supervisor.home import MeshRecord

_PLAIN: dict[str, Any] = {"box": None, "pad_edge": False}
COLOURS = {
    "ready": "green",
    "loading": "yellow",
    "starting": "yellow",
    "draining": "cyan",
    "unloaded": "cyan",
    "failed": "red",
    "backoff": "red",
}


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS.get(state, ""))


def replica_state(state: int) -> str:
    """`REPLICA_STATE_READY` as `ready`."""
    return router_pb2.ReplicaState.Name(state).removeprefix("REPLICA_STATE_").lower()  # type: ignore[arg-type]


def model_state(state: int) -> str:
    """`MODEL_STATE_READY` as `ready`."""
    return router_pb2.ModelState.Name(state).removeprefix("MODEL_STATE_").lower()  # type: ignore[arg-type]


def clock(moment: Timestamp) -> str:
    """A moment in local time; with its date, if that is not today's."""
    local = moment.ToDatetime(tzinfo=UTC).astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def ejection_reason(ejection: router_pb2.Ejection) -> str:
    """`EJECTION_REASON_HUNG` as `hung`."""
    return router_pb2.EjectionReason.Name(ejection.reason).removeprefix("EJECTION_REASON_").lower()


def gateways_text(record: MeshRecord) -> str:
    """The gateways' addresses, by comma."""
    return ", ".join(record.gateways or [record.gateway])


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def services_table(services: Mapping[str, int], replicas: Iterable[router_pb2.Replica]) -> Table:
    """One row a model of each service: version, device, replicas that have it, state.

    Args:
        services: the replicas asked for, by service.
        replicas: those that hold a lease.
    """
    table = Table("SERVICE", "MODEL", "VERSION", "DEVICE", "REPLICAS", "STATE", **_PLAIN)
    held = list(replicas)
    for service, wanted in services.items():
        own = [replica for replica in held if replica.service == service]
        models: dict[tuple[str, str], list[router_pb2.Model]] = {}
        for replica in own:
            for model in replica.models:
                models.setdefault((model.name, model.version), []).append(model)
        if not models:
            table.add_row(
                service, "", "", "", f"0/{wanted}", state_text("starting" if wanted else "scaled to 0")
            )
        for (name, version), found in models.items():
            ready = sum(model.state == router_pb2.MODEL_STATE_READY for model in found)
            failed = next((model.error for model in found if model.error), "")
            idle = sum(model.state == router_pb2.MODEL_STATE_UNLOADED for model in found)
            state = "ready" if ready >= min(wanted, len(found)) else "unloaded" if idle else "loading"
            state = "failed" if failed else state
            cell = state_text(state)
            if failed:
                cell.append(f": {failed}")
            about = (service, escape(name), escape(version), escape(found[0].device))
            table.add_row(*about, f"{ready}/{wanted}", cell)
    return table


def replicas_table(
    replicas: Iterable[router_pb2.Replica], record: MeshRecord, envoys: Iterable[tuple[int, int]]
) -> Table:
    """One row a replica, with its process where it runs on this machine, then the other processes.

    Args:
        envoys: of each gateway that runs, its place among the mesh's addresses, from 0, and its pid.
    """
    table = Table("SERVICE", "REPLICA", "STATE", "MODELS", "DEVICE", "ADDRESS", "PID", "RESTARTS", **_PLAIN)
    processes = {process.name: process for process in record.processes}
    listed = set()
    for replica in replicas:
        listed.add(replica.name)
        process = processes.get(replica.name)
        models = ", ".join(f"{model.name}@{model.version}" for model in replica.models)
        table.add_row(
            escape(replica.service),
            escape(replica.name),
            _replica_cell(replica),
            escape(models),
            escape(", ".join(replica.devices)),
            escape(replica.address),
            str(replica.pid),
            str(process.restarts) if process else "",
        )
    for process in processes.values():
        if process.name in listed:
            continue
        state = process.state if process.role != "replica" or process.state != "running" else "starting"
        cell = state_text(state)
        if process.last_exit and state == "backoff":
            cell.append(f": {process.last_exit}")
        table.add_row(
            process.service or process.role,
            process.name,
            cell,
            "",
            "",
            "",
            str(process.pid or ""),
            str(process.restarts),
        )
    addresses = dict(enumerate(record.gateways))
    for index, pid in sorted(envoys):
        name, address = f"envoy-{index + 1}" if index else "envoy", addresses.get(index, "")
        table.add_row("gateway", name, state_text("running"), "", "", address, str(pid), "")
    return table


def _replica_cell(replica: router_pb2.Replica) -> Text:
    cell = state_text(replica_state(replica.state))
    if replica.HasField("ejection"):
        cell.append(f", {ejection_reason(replica.ejection)}", style="red")
    return cell


def models_table(models: Iterable[router_pb2.ServedModel]) -> Table:
    """One row a model; of its quality the first figure."""
    table = Table(
        "SERVICE", "MODEL", "METHODS", "DEVICE", "MEMORY", "REPLICAS", "LICENCE", "QUALITY", **_PLAIN
    )
    for served in models:
        model = served.model
        state = model_state(model.state)
        name = escape(f"{model.name}@{model.version}" if model.version else model.name)
        quality = f"{model.quality[0].metric} {model.quality[0].value:.4g}" if model.quality else ""
        table.add_row(
            escape(model.service),
            name if state == "ready" else f"{name} [{COLOURS.get(state, 'default')}]{state}[/]",
            escape("\n".join(model.methods)),
            escape(model.device),
            size(model.memory_bytes),
            str(len(served.replicas)),
            escape(model.licence),
            escape(model.error or quality),
        )
    return table


def model_card(model: router_pb2.Model) -> Iterator[str]:
    """All that a model's card says, a line each, as rich markup."""
    yield f"[bold]{escape(f'{model.name}@{model.version}')}[/] {escape(model.description)}"
    for entry in model.quality:
        yield f"  measured: {escape(entry.metric)} {entry.value:.4g}, on {escape(entry.dataset)}"
    if model.engine:
        chosen = ", chosen as the fastest of:" if model.engine_trials else ""
        yield f"  engine: {escape(model.engine)}{chosen}"
    for trial in model.engine_trials:
        yield f"    {escape(_trial(trial))}"
    for limit in model.limits:
        yield f"  [dim]limit: {escape(limit)}[/]"


def _trial(trial: router_pb2.EngineTrial) -> str:
    if trial.refused:
        return f"{trial.engine}: refused: {trial.refused}"
    times = f"{trial.single_ms:.3g} ms alone, {trial.item_ms:.3g} ms an item of {trial.batch_size}"
    return f"{trial.engine}: {times}, error {trial.max_error:.1g}"

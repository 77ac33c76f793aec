"""`meshwork drain` and `meshwork restart`: taking replicas away without losing a call."""

from __future__ import annotations

import time
from collections.abc import Iterable

import rich_click as click
from rich.markup import escape

from meshwork import client
from meshwork.admin.v1 import admin_pb2
from meshwork.cli.console import err, out, reports_errors, router_address, router_option
from meshwork.cli.models import no_wait_option
from meshwork.errors import DeadlineExceeded, Unavailable
from meshwork.router.v1 import router_pb2

POLL_S = 0.1
ANSWER_S = 10.0  # after which a supervisor that has not taken an order up is not there
READY = router_pb2.REPLICA_STATE_READY
STATES = {
    admin_pb2.RESTART_STATE_WAITING: "waits for its turn",
    admin_pb2.RESTART_STATE_STARTING: "starts",
    admin_pb2.RESTART_STATE_DRAINING: "drains",
}
_DONE = (admin_pb2.RESTART_STATE_REPLACED, admin_pb2.RESTART_STATE_FAILED)

timeout_option = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1), default=1800.0, help="Seconds to wait; 1800."
)


@click.command()
@click.argument("replicas", nargs=-1, required=True, metavar="REPLICA...")
@no_wait_option
@timeout_option
@router_option
@reports_errors
def drain(replicas: tuple[str, ...], no_wait: bool, timeout_s: float, router: str) -> None:
    """Take replicas out of traffic; each ends once the calls that it has are answered.

    It works on replicas of every machine. No call is lost: they get nothing new once every gateway and
    client has let go of them, and have `drain_s` seconds (15) to finish. Where the mesh should have
    more replicas of the service than are left, `meshwork up` starts another. To replace replicas
    without being one short meanwhile, use `meshwork restart`.

    \b
    Examples:
      meshwork drain vision-4f7a
      meshwork drain nlp-1 nlp-2 --router 10.0.0.6:9000
    """
    with client.connect(router_address(router), timeout_s=10) as mesh:
        services = {name: mesh.admin.drain_replica(name).service for name in replicas}
        if no_wait:
            out.print(f"{', '.join(services)} will drain")
            return
        for service in sorted(set(services.values())):
            left = [r for r in _replicas(mesh, service) if r.state == READY and r.name not in services]
            if not left:
                err.print(
                    f"[yellow]No other replica of {service} is ready: its callers get UNAVAILABLE until one "
                    f"is. `meshwork restart {service}` starts the next one first.[/]"
                )
        _until_gone(mesh, set(services), timeout_s)
        wanted = {each.name: each.desired_replicas for each in mesh.router.list_services()}
    for name in services:
        out.print(f"{escape(name)} has drained and ended")
    for service in sorted(set(services.values())):
        count = wanted.get(service, 0)
        if count:
            out.print(
                f"{service} should have {count} replica{'' if count == 1 else 's'}: `meshwork up` starts "
                f"another in place of each; for fewer, `meshwork scale {service}={max(count - 1, 0)}`"
            )


def _replicas(mesh: client.Client, service: str = "") -> list[router_pb2.Replica]:
    return list(mesh.router.list_replicas(service=service))


def _until_gone(mesh: client.Client, names: set[str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with out.status("draining") as spinner:
        while True:
            try:
                held = [replica for replica in _replicas(mesh) if replica.name in names]
            except Unavailable:  # the router restarts; the order is written down
                held = []
                spinner.update("the router does not answer")
            else:
                if not held:
                    return
                spinner.update(
                    ", ".join(f"{replica.name}: {replica.calls_in_flight} calls left" for replica in held)
                )
            if time.monotonic() > deadline:
                named = ", ".join(sorted(replica.name for replica in held)) or "the router"
                raise DeadlineExceeded(f"not done after {timeout_s:g} s: {named}; see `meshwork logs`")
            time.sleep(POLL_S)


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@no_wait_option
@timeout_option
@router_option
@reports_errors
def restart(services: tuple[str, ...], no_wait: bool, timeout_s: float, router: str) -> None:
    """Replace the replicas of services one after another, without losing a call.

    A new replica starts and loads its models; once it takes calls, an old one drains and ends; then the
    next. One at a time over all machines, each by the `meshwork up` that runs it. If a new one does not
    become ready, or lacks a model that the old one has, the old one stays and the restart ends.

    Ctrl-C stops the waiting, not the restart.

    \b
    Examples:
      meshwork restart vision
      meshwork restart nlp translation --no-wait
    """
    with client.connect(router_address(router), timeout_s=10) as mesh:
        for service in services:
            asked = mesh.admin.restart_service(service)
            if no_wait:
                out.print(f"{service}: {', '.join(asked.replicas)} will be replaced")
                continue
            try:
                ended = _until_replaced(mesh, service, timeout_s)
            except KeyboardInterrupt:
                out.print(
                    f"\nThe restart of {service} goes on without you; `meshwork status` shows how far it is."
                )
                raise SystemExit(130) from None
            _conclude(service, ended)


def _until_replaced(mesh: client.Client, service: str, timeout_s: float) -> list[admin_pb2.RestartedReplica]:
    """Shows how far the restart is until each replica is done, or its supervisor does not answer."""
    began = time.monotonic()
    shown: set[str] = set()
    with out.status(f"restarting {service}") as spinner:
        while True:
            found: list[admin_pb2.RestartedReplica] = []
            try:
                found = list(mesh.admin.get_restart(service).replicas)
            except Unavailable as error:  # the router restarts, or Redis is away; the order is written down
                spinner.update(escape(str(error)))
            silent = [each for each in found if not each.state]
            busy = [each for each in found if each.state and each.state not in _DONE]
            _show_replaced(found, shown)
            if busy:
                spinner.update(f"{service}: {', '.join(map(_progress, busy))}")
            waited_s = time.monotonic() - began
            if found and not busy and (not silent or waited_s > ANSWER_S):
                return found
            if waited_s > timeout_s:
                raise DeadlineExceeded(
                    f"the restart of {service} is not done after {timeout_s:g} s, and goes on; "
                    "see `meshwork status`"
                )
            time.sleep(POLL_S)


def _progress(each: admin_pb2.RestartedReplica) -> str:
    starting = each.state == admin_pb2.RESTART_STATE_STARTING
    return f"{each.successor if starting else each.replica} {STATES[each.state]}"


def _show_replaced(found: Iterable[admin_pb2.RestartedReplica], shown: set[str]) -> None:
    for each in found:
        if each.state == admin_pb2.RESTART_STATE_REPLACED and each.replica not in shown:
            shown.add(each.replica)
            by = f"replaced by {each.successor}" if each.successor else "gone already"
            out.print(f"{escape(each.replica)} is {escape(by)}")


def _conclude(service: str, ended: list[admin_pb2.RestartedReplica]) -> None:
    failed = [each for each in ended if each.state == admin_pb2.RESTART_STATE_FAILED]
    silent = [each.replica for each in ended if not each.state]
    for each in failed:
        err.print(f"[bold red]{escape(each.replica)} stays:[/] {escape(each.detail)}")
    if silent:
        err.print(
            f"[bold red]Nobody answers for {escape(', '.join(silent))}:[/] no `meshwork up` runs them. Start "
            "others by hand, and take these away with `meshwork drain`."
        )
    if failed or silent:
        raise SystemExit(1)
    count = len(ended)
    out.print(f"{service}: {count} replica{'' if count == 1 else 's'} replaced")

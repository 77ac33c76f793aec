"""Shows a mesh coming up: what runs, what loads, what crashed; the same for `up` and `up -d`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Mapping

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner

from meshwork import config as configs
from meshwork.cli.console import out
from meshwork.cli.tables import gateways_text, replica_state, services_table
from meshwork.router.v1.router_pb2 import Replica
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.supervisor.home import Home, MeshRecord

POLL_S = 0.2


async def until_ready(home: Home, supervisor: int, ended: Callable[[], bool]) -> MeshRecord | None:
    """Draws the start until the mesh of that `supervisor` (its pid) is ready; None if it `ended` or failed.

    Another supervisor's record may lie in `home`: of a mesh that was killed, or one that runs.
    """
    said: set[str] = set()
    with Live(console=out, refresh_per_second=8, transient=True) as live:
        while not ended():
            record = home.read()
            if record is not None and record.pid == supervisor:
                replicas = await leases(record)
                if record.state == "ready":
                    return record
                if record.state == "failed":
                    return None
                if out.is_terminal:
                    live.update(Group(services_table(wanted(record), replicas.values()), _waiting(record)))
                else:
                    _say_new(replicas, said)
            await asyncio.sleep(POLL_S)
    return None


def _waiting(record: MeshRecord) -> Spinner:
    crashed = [process for process in record.processes if process.state == "backoff"]
    text = "starting" if not crashed else f"{crashed[0].name} ended ({crashed[0].last_exit}), trying again"
    return Spinner("dots", text)


def _say_new(replicas: Mapping[str, Replica], said: set[str]) -> None:
    """Where nothing can be redrawn: a line for each thing that became ready."""
    for replica in replicas.values():
        line = f"{replica.service}: {replica.name} {replica_state(replica.state)}"
        if line not in said:
            said.add(line)
            out.print(line)


def wanted(record: MeshRecord) -> dict[str, int]:
    """The replicas asked for, by service."""
    config = configs.from_json(record.config)
    running = [process.service for process in record.processes if process.role == "replica"]
    return {service: running.count(service) for service in config.services}


async def leases(record: MeshRecord) -> dict[str, Replica]:
    """The replicas that hold a lease; none while Redis is away."""
    if not record.redis_url:
        return {}
    redis = connect(record.redis_url)
    try:
        return await LeaseBook(redis, Keys(mesh=record.name)).all()
    except REDIS_AWAY:
        return {}
    finally:
        await redis.aclose()


def show_ready(record: MeshRecord, replicas: Mapping[str, Replica]) -> None:
    """The end of `up`: the services, the address, and three things to try."""
    out.print(services_table(wanted(record), replicas.values()))
    out.print(f"\nGateway [bold]{gateways_text(record)}[/] (gRPC, gRPC-Web and REST). Try:\n")
    # A newcomer's shell may not have the command on its path.
    command = "meshwork" if shutil.which("meshwork") else sys.argv[0]
    out.print(f"  curl http://{record.gateway}/v1/models", style="cyan")
    out.print(f'  {command} call nlp match-texts "a place to sleep" hotel bakery garage', style="cyan")
    out.print(f'  {command} call translation translate --to fr "where is the station"', style="cyan")

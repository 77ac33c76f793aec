"""Running a mesh on this machine: up, down, status, scale, logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import psutil
import rich_click as click
from rich.console import RenderableType
from rich.markup import escape

from meshwork import config
from meshwork.cli import start
from meshwork.cli.console import (
    as_data,
    err,
    json_option,
    out,
    print_json,
    reports_errors,
    router_address,
    running_mesh,
)
from meshwork.cli.events import lines_of
from meshwork.cli.overview import alarms, ejected, look, routers_table, scraped_at
from meshwork.cli.tables import gateways_text, replicas_table, services_table
from meshwork.errors import FailedPrecondition, Unavailable
from meshwork.process import stop_on_signals
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.desired import Desired
from meshwork.state.events import Events, event
from meshwork.state.keys import Keys
from meshwork.supervisor.home import Home, MeshRecord, alive
from meshwork.supervisor.leftovers import gateway_index
from meshwork.supervisor.supervisor import Crash, Supervisor, end_leftovers, gateways, kill_now

STOP_S = 15.0


def _counts(pairs: tuple[str, ...]) -> dict[str, int]:
    counts = {}
    for pair in pairs:
        service, equals, count = pair.partition("=")
        if not equals or not count.isdecimal():
            raise click.UsageError(f"{pair!r}: should be SERVICE=COUNT, for example nlp=2")
        counts[service] = int(count)
    return counts


@click.command()
@click.option(
    "-d", "--detach", is_flag=True, help="Return once every service is ready; run on in the background."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="A mesh.yaml; see `meshwork config show`.",
)
@click.option(
    "--redis",
    "redis_url",
    default="",
    metavar="URL",
    help="Keep state in this Redis, not in an own Valkey: redis://, rediss:// (TLS), "
    "redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST.",
)
@click.option(
    "--otlp",
    default="",
    metavar="URL",
    help="Send traces to this OTLP endpoint (gRPC), for example http://localhost:4317 of Jaeger; without it "
    "the mesh keeps the last ones itself: `meshwork trace`.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the gateway; of several, of the first.")
@click.option(
    "--routers", type=click.IntRange(1, 100), help="Router processes; at least one for each gateway."
)
@click.option(
    "--replicas", multiple=True, metavar="SERVICE=N", help="Replicas of a service; may be given again."
)
@reports_errors
def up(
    detach: bool,
    config_file: Path | None,
    redis_url: str,
    otlp: str,
    port: int | None,
    routers: int | None,
    replicas: tuple[str, ...],
) -> None:
    """Run the whole mesh on this machine.

    Starts Valkey, the routers with their gateways, and the services with their models. Ctrl-C stops
    it all. MESHWORK_HOME (~/.meshwork) separates several meshes on one machine.

    \b
    Examples:
      meshwork up
      meshwork up -d --port 9000 --replicas nlp=2
      meshwork up --config mesh.yaml --redis redis://10.0.0.5:6379
      meshwork up --redis redis+sentinel://10.0.0.5,10.0.0.6/mymaster
    """
    settings = config.read(config_file) if config_file else config.read()
    settings = settings.with_replicas(_counts(replicas))
    if port is not None:
        settings = settings.with_port(port)
    if routers is not None:
        settings = settings.with_routers(routers)
    if redis_url:
        settings = settings.with_redis(redis_url)
    if otlp:
        settings = settings.with_otlp(otlp)
    home = Home.from_environment()
    raise SystemExit(asyncio.run(_up_detached(home, settings) if detach else _up(home, settings)))


async def _up(home: Home, settings: config.MeshConfig) -> int:
    stop = stop_on_signals(lambda: kill_now(home))
    run = asyncio.create_task(Supervisor(home, settings, on_crash=_show_crash).run(stop))
    record = await start.until_ready(home, os.getpid(), lambda: run.done() or stop.is_set())
    if record is not None:
        start.show_ready(record, await start.leases(record))
        out.print("\nCtrl-C stops the mesh.")
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    if stop.is_set():
        out.print("Stopping ...")
    reason = await run
    if reason:
        err.print(f"[bold red]The mesh did not start:[/] {escape(reason)}")
        return 1
    out.print("The mesh has stopped.")
    return 0


def _show_crash(crash: Crash) -> None:
    out.print(f"[bold red]{crash.name}[/] ended: {crash.how}; starting it again in {crash.again_s:g} s")
    for line in crash.last_lines:
        out.print(f"    {escape(line)}", style="dim")


async def _up_detached(home: Home, settings: config.MeshConfig) -> int:
    record = home.running()
    if record is not None:
        raise FailedPrecondition(
            f"a mesh runs already in {home.root} (pid {record.pid}, gateway {record.gateway}): "
            "see `meshwork status`, stop it with `meshwork down`"
        )
    home.make()
    log = home.open_log("mesh")
    begin = os.fstat(log).st_size
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-P", "-m", "meshwork.supervisor"],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(config.to_json(settings))
    process.stdin.close()
    try:
        ready = await start.until_ready(home, process.pid, lambda: process.poll() is not None)
    except (KeyboardInterrupt, asyncio.CancelledError):
        process.terminate()
        process.wait(STOP_S)
        raise
    if ready is None:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        failed = home.read()
        reason = failed.reason if failed and failed.pid == process.pid else ""
        reason = reason or "\n".join(home.last_lines("mesh", 20, begin))
        err.print(f"[bold red]The mesh did not start:[/] {escape(reason)}")
        return 1
    start.show_ready(ready, await start.leases(ready))
    out.print("\nIt runs in the background: `meshwork status`, `meshwork logs`, `meshwork down`.")
    return 0


@click.command()
@reports_errors
def down() -> None:
    """Stop the mesh that runs on this machine.

    Replicas finish what they are doing first, within a few seconds.
    """
    home = Home.from_environment()
    record = home.running()
    if record is None:
        end_leftovers(home)
        home.forget()
        out.print(f"No mesh runs in {home.root}.")
        return
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself, just now
        psutil.Process(record.pid).terminate()
    with out.status("stopping"):
        deadline = time.monotonic() + STOP_S
        while home.running() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    if home.running() is not None:
        raise FailedPrecondition(
            f"the mesh (pid {record.pid}) did not stop within {STOP_S:g} s; see {home.log('mesh')}"
        )
    out.print("The mesh has stopped.")


@click.command()
@json_option
@reports_errors
def status(as_json: bool) -> None:
    """Show how the mesh that runs here is: services, replicas, routers, processes, what is wrong.

    A router is asked; if none answers, what this machine knows is shown. While Redis is away the
    router answers from memory, and says since when. Replicas that the mesh keeps from traffic are
    listed with the reason; `meshwork events` tells more.
    """
    home, record = running_mesh()
    envoys = gateways(home)
    seen = look(router_address())
    if as_json:
        print_json(
            {
                "name": record.name,
                "state": record.state,
                "gateway": record.gateway,
                "router": record.router,
                "gateways": record.gateways,
                "routers": record.routers,
                "problem": seen.problem,
                "mesh": as_data(seen.mesh) if seen.mesh else None,
                "replicas": [as_data(replica) for replica in seen.replicas],
                "warnings": [as_data(event) for event in seen.warnings],
                "processes": [asdict(process) for process in record.processes],
                "gateway_pids": [envoy.pid for envoy in envoys],
            }
        )
        return
    out.print(
        f"Mesh [bold]{record.name}[/] is {record.state}, gateway [bold]{gateways_text(record)}[/], "
        f"in {home.root}\n"
    )
    for line in alarms(seen):
        err.print(line)
    out.print(services_table(start.wanted(record), seen.replicas))
    out.print()
    out.print(replicas_table(seen.replicas, record, [(gateway_index(each), each.pid) for each in envoys]))
    if seen.mesh is not None:
        out.print()
        out.print(routers_table(seen.mesh))
        out.print("".join(f"\nPrometheus: http://{at}/sd" for at in scraped_at(seen.mesh)), style="dim")
    _section("Kept from traffic", ejected(seen.replicas))
    _section("Warnings of the last hour (see `meshwork events`)", lines_of(seen.warnings))
    out.print(f"\nMemory in all: {_memory(record, envoys) / 1e9:.2f} GB", style="dim")


def _section(title: str, lines: Iterable[RenderableType]) -> None:
    shown = list(lines)
    if shown:
        out.print(f"\n{title}:")
    for line in shown:
        out.print(line)


def _memory(record: MeshRecord, envoys: list[psutil.Process]) -> int:
    """Resident memory of every process of the mesh, supervisor and gateway included, in bytes."""
    found = [alive(process) for process in record.processes]
    pids = {record.pid, *(process.pid for process in (*envoys, *found) if process)}
    # By pid: the supervisor's descendants are the others, and theirs (speech has some of its own).
    family: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                family[member.pid] = member.memory_info().rss
    return sum(family.values())


@click.command()
@click.argument("counts", nargs=-1, required=True, metavar="SERVICE=N...")
@click.option("--no-wait", is_flag=True, help="Return at once; do not wait until the replicas are ready.")
@reports_errors
def scale(counts: tuple[str, ...], no_wait: bool) -> None:
    """Change the number of replicas on the running mesh.

    \b
    Examples:
      meshwork scale vision=3
      meshwork scale nlp=2 speech=0
    """
    _, record = running_mesh()
    wanted = _counts(counts)
    config.from_json(record.config).with_replicas(wanted)  # says which services there are
    asyncio.run(_scale(record, wanted, wait=not no_wait))


async def _scale(record: MeshRecord, wanted: dict[str, int], *, wait: bool) -> None:
    redis = connect(record.redis_url)
    try:
        keys = Keys(mesh=record.name)
        desired, events = Desired(redis, keys), Events(redis, keys)
        for service, count in wanted.items():
            await desired.set(service, count)
            text = f"scaled to {count}"
            await events.append(event(router_pb2.EVENT_KIND_OPERATOR, text, service=service))
    except REDIS_AWAY as error:
        raise Unavailable(f"Redis, which keeps the numbers of replicas, does not answer: {error}") from error
    finally:
        await redis.aclose()
    deadline = time.monotonic() + 120
    with out.status("scaling"):
        while wait:
            held = await start.leases(record)
            ready = [r.service for r in held.values() if r.state == router_pb2.REPLICA_STATE_READY]
            everyone = [r.service for r in held.values()]
            if all(ready.count(s) == n and everyone.count(s) == n for s, n in wanted.items()):
                break
            if time.monotonic() > deadline:
                raise FailedPrecondition("the replicas are not ready after 120 s; see `meshwork logs`")
            await asyncio.sleep(start.POLL_S)
    for service, count in wanted.items():
        out.print(
            f"{service}: {count} replica{'' if count == 1 else 's'}{' ready' if wait and count else ''}"
        )

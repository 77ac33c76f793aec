"""The supervisor of a mesh on one machine.

It starts Valkey, the routers (which run the gateways) and the replicas, keeps the number of replicas
at what is asked for in Redis (`meshwork scale`), replaces them on order (`meshwork restart`), restarts
what crashes, and gives up the lease of a dead replica at once, so that nobody waits for it to lapse.
Replicas, routers and gateways go on without it; `run` returns when it is told to stop and everything
has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from meshwork import config as configs
from meshwork import logs
from meshwork.config import MeshConfig, ServiceConfig
from meshwork.drain import CONFIRM_S
from meshwork.errors import FailedPrecondition
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.desired import Desired
from meshwork.state.events import Events, event
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.supervisor import commands
from meshwork.supervisor.child import Child, backoff_s
from meshwork.supervisor.home import Home, MeshRecord
from meshwork.supervisor.leftovers import end_leftovers, gateways, kill_now
from meshwork.supervisor.ports import check_free, free_port, free_ports
from meshwork.supervisor.probe import unreachable
from meshwork.supervisor.rolling import Rolling
from meshwork.supervisor.watchdog import PROBE_S, PROBES, watch

__all__ = ["Crash", "Supervisor", "end_leftovers", "gateways", "kill_now"]

log = logging.getLogger(__name__)

HOPELESS_CRASHES = 3  # in a row before it was ever ready: the mesh has failed to start
REACHABLE_S = 60.0  # the longest that a gateway may take to know of replicas that are ready
CRASH_LINES = 15  # of a crashed process's log that are shown
END_S = 7.0  # that a replica may take to end besides its drain
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
        self._leases: Mapping[str, router_pb2.Replica] = {}  # the latest, by replica
        self._wanted: dict[str, int] = {}  # replicas asked for, by service
        self._state = "starting"
        self._reason = ""
        self._router_listens: list[str] = []
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
            for address in self._config.gateway.addresses:
                host, _, port = address.rpartition(":")
                check_free(host, int(port))
            self._router_listens = [f"127.0.0.1:{port}" for port in free_ports(self._config.router_count)]
            starting = asyncio.create_task(self._start())
            background: list[asyncio.Task[None]] = []
            try:
                await _either(starting, stop)
                if not stop.is_set():
                    background = [
                        asyncio.create_task(self._follow_desired()),
                        asyncio.create_task(self._follow_leases()),
                        asyncio.create_task(self._follow_restarts()),
                        *(
                            asyncio.create_task(self._watch_router(child, address))
                            for child, address in zip(
                                self._of_role("router"), self._router_listens, strict=True
                            )
                        ),
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
        for index in range(len(self._router_listens)):
            self._start_router(index)
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

    def _start_router(self, index: int) -> None:
        """The first one is named `router`, those after it `router-2` and so on."""
        name = f"router-{index + 1}" if index else "router"
        folder = self._home.run_dir / name if index else self._home.run_dir
        command = commands.router(self._config, self._redis_url, self._router_listens, index, folder)
        self._add(name, "router", command)

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
            on_done=self._drained if role == "replica" else None,
        )

    def _of_role(self, role: str) -> list[Child]:
        return [child for child in self._children.values() if child.role == role]

    def _replicas(self, service: str) -> list[Child]:
        return [child for child in self._children.values() if child.service == service and not child.retiring]

    async def _want(self, service: str, count: int) -> None:
        """Says in Redis how many replicas there shall be, and starts the missing ones."""
        assert self._redis is not None
        with contextlib.suppress(*REDIS_AWAY):
            await Desired(self._redis, self._keys).set(service, count)
        self._reconcile(service, count)

    def _start_replica(self, service: str, settings: ServiceConfig) -> str:
        name = f"{service}-{secrets.token_hex(2)}"
        command = commands.replica(
            self._config, service, settings, name, self._redis_url, self._router_listens
        )
        self._add(name, "replica", command, service)
        return name

    def _settings(self, service: str) -> ServiceConfig | None:
        return next((own for name, own in self._config.services.items() if name == service), None)

    def _reconcile(self, service: str, count: int) -> None:
        self._wanted[service] = count
        settings = self._settings(service)
        if settings is None:
            log.warning("%s is asked for but not in this mesh's configuration", service)
            return
        running = self._replicas(service)
        for _ in range(count - len(running)):
            self._start_replica(service, settings)
        # Those that work stay, and of them the eldest; `sorted` keeps the order of equals.
        for child in sorted(running, key=lambda child: not self._is_ready(child.name))[count:]:
            child.retiring = True
            self._in_background(self.retire(child.name))

    def _is_ready(self, name: str) -> bool:
        return name in self._leases and self._leases[name].state == router_pb2.REPLICA_STATE_READY

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._revoking.add(task)
        task.add_done_callback(self._revoking.discard)

    def runs(self, name: str) -> bool:
        """Whether the replica is one of ours that is to stay."""
        return name in self._children and not self._children[name].retiring

    def lease(self, name: str) -> router_pb2.Replica | None:
        """What the replica says of itself."""
        return self._leases.get(name)

    def replace(self, name: str) -> str:
        """Starts another replica of the same service, which counts in place of `name`; gives its name."""
        old = self._children[name]
        settings = self._settings(old.service)
        assert settings is not None
        old.retiring = True
        return self._start_replica(old.service, settings)

    def keep(self, name: str) -> None:
        """Lets the replica count again after all."""
        if name in self._children:
            self._children[name].retiring = False

    def trouble(self, name: str) -> str:
        """Why the replica will never be ready, "" while it may."""
        child = self._children.get(name)
        if child is None:
            return f"{name} has ended"
        if child.crashes < HOPELESS_CRASHES:
            return ""
        lines = "\n".join(child.last_lines(CRASH_LINES))
        return f"{name} ended {child.crashes} times before it was ready, last: {child.last_exit}\n{lines}"

    async def retire(self, name: str) -> None:
        """Stops a replica for good; it drains first."""
        child = self._children.get(name)
        if child is None:
            return
        child.retiring = True
        settings = self._settings(child.service)
        await child.stop(timeout_s=CONFIRM_S + (settings.drain_s if settings else 0.0) + END_S)
        await self._revoke(name)  # one that hung could not give its lease up
        self._children.pop(name, None)
        self._write()

    def _drained(self, child: Child) -> None:
        """A replica ended as it was told to, by an order or a signal of somebody else's."""
        if child.retiring:
            return  # who retires it sees to the rest
        self._children.pop(child.name, None)
        self._write()
        log.info("%s has drained and ended", child.name)
        self._reconcile(child.service, self._wanted.get(child.service, 0))

    async def _watch_router(self, child: Child, address: str) -> None:
        async def end() -> None:
            text = f"hung: it answered nobody for {PROBES * PROBE_S:g} s; killed, it is started again"
            log.error("%s %s", child.name, text)
            child.kill()
            assert self._redis is not None
            happened = event(
                router_pb2.EVENT_KIND_ROUTER_DOWN,
                text,
                level=router_pb2.EVENT_LEVEL_WARNING,
                subject=child.name,
            )
            await Events(self._redis, self._keys).append(happened)

        await watch(address, lambda: child.record().pid, end)

    async def _follow_restarts(self) -> None:
        assert self._redis is not None
        await Rolling(self._redis, self._keys, self, self._config.services).run()

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
            self._leases = view.replicas
            self._was_ready |= {name for name in view.replicas if self._is_ready(name)}
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
            found = [await unreachable(each, wanted) for each in self._config.gateway.addresses]
            away = sorted({service for services in found for service in services})
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
            self._in_background(self._revoke(child.name))
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
            gateway=self._config.gateway.addresses[0],
            router=self._router_listens[0],
            gateways=list(self._config.gateway.addresses),
            routers=self._router_listens,
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
            await asyncio.gather(*(child.stop(timeout_s) for child in self._of_role(role)))
        end_leftovers(self._home)


async def _either(work: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Returns when `work` is done, raising what it raised, or when `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if work.done():
        work.result()

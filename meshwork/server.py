"""The process of a replica: load and warm up, lease, serve, drain, exit.

::

    STARTING --models ready--> READY --SIGTERM or order--> DRAINING --see meshwork.drain--> exit

The lease is renewed all the while, by the replica alone; while Redis is away the replica serves on.
A second signal exits at once.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import REGISTRY
from redis.asyncio import Redis

import meshwork
from meshwork import logs, telemetry
from meshwork.channel import PINGS_ALLOWED
from meshwork.devices import parse_devices
from meshwork.drain import out_of_snapshots
from meshwork.errors import ConfigError
from meshwork.follow import Follower
from meshwork.front import make_server
from meshwork.model_config import ModelConfig
from meshwork.process import run, spare_the_collector, stop_on_signals, watch_parent
from meshwork.router.v1 import router_pb2
from meshwork.rpc import add_servicer
from meshwork.serving import metrics
from meshwork.serving.card import CARD_FILE
from meshwork.serving.config import ReplicaConfig, host_name
from meshwork.serving.device import Bounds
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.oip import repository as oip
from meshwork.serving.oip.inference import Inference
from meshwork.serving.oip.listener import RestListener
from meshwork.serving.oip.service import InferenceService
from meshwork.serving.sources import STARTER
from meshwork.serving.tally import CallTally, ReplicaState
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.drains import Drains
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.log_levels import LogLevels
from meshwork.state.orders import Orders, process_of
from meshwork.state.reports import Reports
from meshwork.state.wishes import Wishes

log = logging.getLogger(__name__)

DRAIN_STEP_S = 0.25  # how often a draining replica says how many calls it still has
RENEW_S = 1.0  # routers take a replica that is silent for over twice as long for one that hangs
REVOKE_S = 1.0  # the longest that a Redis which hangs keeps us from ending
EXIT_NO_MODEL = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSpec:
    """What makes a folder of `services/` a service."""

    name: str  # for example "vision"
    full_name: str  # of the proto service, for example "meshwork.vision.v1.VisionService"
    tasks: Mapping[str, str]  # card's task -> "module:Class", imported when a model needs it
    servicer: str  # "module:Class", made with a ServiceContext
    # End of an architecture's name in a Hugging Face config.json -> the task that runs it.
    architectures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a servicer works with."""

    models: ModelTable
    redis: Redis
    keys: Keys
    config: ReplicaConfig = field(default_factory=ReplicaConfig)


def main(spec: ServiceSpec) -> None:
    """Runs a replica of `spec` as the environment says; returns when it was told to stop."""
    try:
        config = ReplicaConfig.from_environment(os.environ, spec.name)
        logs.start(config.replica)
        telemetry.start(spec.name, config.replica, {"host.name": host_name()})
        # Read by OpenMP when a task imports torch.
        os.environ.setdefault("OMP_NUM_THREADS", str(config.cpu_threads))
        status = run(serve(spec, config))
    except ConfigError as error:
        sys.exit(f"{spec.name}: {error}")
    telemetry.stop()
    # Not sys.exit, which would wait for a forward pass that outlasted the drain.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def serve(spec: ServiceSpec, config: ReplicaConfig) -> int:
    """Runs a replica until a signal, or its parent's end; gives the process's exit status."""
    # A thread that computes in Python would keep the event loop waiting for Python's 5 ms.
    sys.setswitchinterval(0.0005)
    stop = stop_on_signals()
    redis, keys = connect(config.redis_url), Keys(mesh=config.mesh)
    load = LoadMeter()
    changed = asyncio.Event()
    models = ModelTable(
        spec.name,
        config.replica,
        spec.tasks,
        config.device,
        load,
        architectures=spec.architectures,
        on_change=changed.set,
        cpu_threads=max(2, os.cpu_count() or 1),
        bounds=Bounds(items=config.queue_items, queue_bytes=config.queue_bytes),
        memory_bytes=config.memory_bytes,
    )
    server = make_server(
        [
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
            ("grpc.so_reuseport", 0),
            *PINGS_ALLOWED,
        ],
        front=config.front,
    )
    module, _, name = spec.servicer.partition(":")
    servicer = getattr(importlib.import_module(module), name)(ServiceContext(models, redis, keys, config))
    watching = CallTally(spec.name, load)
    add_servicer(server, spec.full_name, servicer, watching)
    inference = Inference(spec.name, spec.full_name, models)
    add_servicer(server, oip.FULL_NAME, InferenceService(inference), watching)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (spec.full_name, oip.FULL_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(config.listen)
    except RuntimeError as error:
        raise ConfigError(f"MESHWORK_LISTEN: cannot listen on {config.listen}: {error}") from error
    await _set_health(checks, spec, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()

    rest = _rest(spec, config, inference, watching)
    replica = _replica(spec, config, port, rest.port if rest else None)
    process, orders = process_of(replica), Orders(redis, keys)
    lease = _Lease(LeaseBook(redis, keys), replica, models, changed, config.lease_ttl_s, load)
    state = ReplicaState(replica, lambda: lease.renewed, load, lambda: models.entries)
    REGISTRY.register(state)
    try:
        # A lease that ends by itself is a defect: the group then ends all of the replica.
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(lease.run(), name="lease"),
                group.create_task(watch_parent(stop), name="parent"),
                group.create_task(_follow_order(orders, process, stop), name="order to drain"),
                group.create_task(metrics.watch_loop(models.held.late), name="loop lag"),
                group.create_task(
                    LogLevels(redis, keys).follow([config.replica, spec.name]), name="log level"
                ),
            ]
            follower = Follower(models, Wishes(redis, keys), spec.name)
            loaded = await _load_all(models, config.models or starters(spec.name), follower, stop)
            if not loaded:
                log.error("no model could be loaded, giving up")
            elif not stop.is_set():
                background.append(group.create_task(follower.run(), name="wishes"))
                spare_the_collector()
                background.append(
                    group.create_task(
                        models.windows.run(Reports(redis, keys), config.replica), name="reports"
                    )
                )
                load.ready()
                lease.enter(router_pb2.REPLICA_STATE_READY)
                await _set_health(checks, spec, health_pb2.HealthCheckResponse.SERVING)
                if replica.http_address:
                    log.info("REST on %s", replica.http_address)
                log.info("ready on %s", replica.address)
                await stop.wait()
            if loaded:
                log.info("draining, %d calls in flight", load.in_flight)
                inference.draining = True
                lease.enter(router_pb2.REPLICA_STATE_DRAINING)
                await _set_health(checks, spec, health_pb2.HealthCheckResponse.NOT_SERVING)
                await out_of_snapshots(Drains(redis, keys), process, lambda: watching.begun)
                await asyncio.gather(server.stop(config.drain_s), *((rest.stop(),) if rest else ()))
            for task in background:
                task.cancel()
        return 0 if loaded else EXIT_NO_MODEL
    finally:
        REGISTRY.unregister(state)
        await lease.revoke()
        await server.stop(None)
        if rest is not None:
            await rest.stop()
        await models.close()
        await redis.aclose()
        log.info("stopped")


def starters(service: str) -> tuple[ModelConfig, ...]:
    """The starter models of `service`, by name."""
    package = importlib.import_module(f"services.{service}")
    folder = Path(str(package.__path__[0])) / "starters"
    names = sorted(path.parent.name for path in folder.glob(f"*/{CARD_FILE}"))
    return tuple(ModelConfig(source=f"{STARTER}{name}") for name in names)


async def _load_all(
    models: ModelTable, configs: tuple[ModelConfig, ...], follower: Follower, stop: asyncio.Event
) -> bool:
    """Loads the models one after another; true if one is ready, or if there is none to load."""
    for config in configs:
        if stop.is_set():
            return True
        await models.add(config)
    await follower.catch_up()
    useful = (router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_UNLOADED)
    ready = [model for model in models.describe() if model.state in useful]
    return bool(ready)


async def _set_health(checks: health.aio.HealthServicer, spec: ServiceSpec, status: int) -> None:
    for name in ("", spec.full_name):
        await checks.set(name, status)


async def _follow_order(orders: Orders, process: str, stop: asyncio.Event) -> None:
    await orders.until_drain(process)
    log.info("ordered to drain")
    stop.set()


def _rest(
    spec: ServiceSpec, config: ReplicaConfig, inference: Inference, watching: CallTally
) -> RestListener | None:
    if config.http_listen == "off":
        return None
    listen = config.http_listen or f"{config.listen.rpartition(':')[0]}:0"
    try:
        return RestListener(
            listen,
            config.drain_s,
            lambda kind: kind(spec.name, inference, config.max_message_bytes, watching),
        )
    except OSError as error:
        raise ConfigError(f"MESHWORK_HTTP_LISTEN: cannot listen on {listen}: {error}") from error


def _replica(
    spec: ServiceSpec, config: ReplicaConfig, port: int, http_port: int | None
) -> router_pb2.Replica:
    host = config.advertise or config.listen.rpartition(":")[0]
    if host in ("0.0.0.0", "[::]"):  # noqa: S104 - compared, not bound
        host = host_name()
    replica = router_pb2.Replica(
        name=config.replica,
        service=spec.name,
        address=f"{host}:{port}",
        http_address=f"{host}:{http_port}" if http_port else "",
        state=router_pb2.REPLICA_STATE_STARTING,
        devices=_devices(config),
        host=host_name(),
        zone=config.zone,
        pid=os.getpid(),
        release=meshwork.__version__,
    )
    replica.start_time.GetCurrentTime()
    return replica


def _devices(config: ReplicaConfig) -> list[str]:
    """Every device that the replica was told to use."""
    lists = [config.device, *(model.device for model in config.models if model.device)]
    return sorted({name for text in lists for name in parse_devices(text)})


class _Lease:
    """Owns the replica's lease: renews it, and at once when something in it changed.

    Attributes:
        renewed: when Redis took it last, on the monotonic clock.
    """

    def __init__(
        self,
        book: LeaseBook,
        replica: router_pb2.Replica,
        models: ModelTable,
        changed: asyncio.Event,
        ttl_s: float,
        load: LoadMeter,
    ) -> None:
        self._book = book
        self._replica = replica
        self._models = models
        self._changed = changed
        self._ttl_s = ttl_s
        self._load = load
        self.renewed = time.monotonic()

    def enter(self, state: router_pb2.ReplicaState.ValueType) -> None:
        """Moves the replica to `state` and says so without delay."""
        self._replica.state = state
        self._changed.set()

    async def run(self) -> None:
        """Renews until cancelled; while Redis is away it tries on."""
        away = False
        while True:
            self._changed.clear()
            del self._replica.models[:]
            self._replica.models.extend(self._models.describe())
            draining = self._replica.state == router_pb2.REPLICA_STATE_DRAINING
            self._replica.calls_in_flight = self._load.in_flight if draining else 0
            try:
                async with asyncio.timeout(self._ttl_s / 2):
                    await self._book.renew(self._replica, self._ttl_s)
                self.renewed = time.monotonic()
                if away:
                    log.info("Redis is back, the lease is renewed")
                away = False
            except REDIS_AWAY as error:
                if not away:
                    log.warning("the lease can't be renewed, serving on: %s", error)
                away = True
            try:
                async with asyncio.timeout(DRAIN_STEP_S if draining else min(RENEW_S, self._ttl_s / 3)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def revoke(self) -> None:
        """Gives the lease up, if Redis can be reached."""
        try:
            async with asyncio.timeout(REVOKE_S):
                await self._book.revoke(self._replica.name)
        except REDIS_AWAY:  # TimeoutError is one of them
            log.warning("Redis is away, the lease will lapse by itself")

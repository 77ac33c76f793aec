"""The router at work: registry -> plan -> snapshot -> xDS, and what the router itself serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from redis.asyncio import Redis

from meshwork.channel import MAX_MESSAGE_BYTES, PINGS_ALLOWED
from meshwork.router.v1 import router_pb2
from meshwork.rpc import add_servicer
from meshwork.serving.oip.repository import FULL_NAME as INFERENCE_SERVICE
from meshwork.serving.oip.repository import REST_SERVICE
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.desired import Desired
from meshwork.state.drains import Drains
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.log_levels import LogLevels
from meshwork.state.orders import process_of
from meshwork.state.traces import Traces
from meshwork.xds.ads import AdsService
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.messages import Values
from meshwork.xds.snapshot import Resource
from services.router import contract, envoy
from services.router.admin import AdminService
from services.router.config import RouterConfig
from services.router.discovery import Discovery
from services.router.fallback import Fallback
from services.router.gateway import GatewaySettings, cors, framed, gateway_listener
from services.router.gateway_tracing import tracing
from services.router.http_listener import HttpListener
from services.router.incremental import Planner
from services.router.inference_service import MeshInference
from services.router.load_watch import LoadWatch
from services.router.memory import Memory
from services.router.mesh_view import MeshView
from services.router.planner import PlanSettings
from services.router.policy import hash_fields
from services.router.registry import Registry
from services.router.router_metrics import RouterState
from services.router.scrape_targets import targets
from services.router.service import RouterService
from services.router.tail import Tail
from services.router.traces import TraceService, TraceStore

log = logging.getLogger(__name__)

ROUTER_SERVICE = "meshwork.router.v1.RouterService"
ADMIN_SERVICE = "meshwork.admin.v1.AdminService"
# Changes of this time go out together: a burst costs each client a few responses, not one a change.
PUBLISH_INTERVAL_S = 0.05
TRACE_SERVICE = "meshwork.trace.v1.TraceService"
CONFIRM_S = 30.0  # the longest to wait for clients to leave a draining replica; it waits less itself


class Router:
    """One router, without its Envoy.

    Args:
        config: how to run.
        redis: where the leases are; it may be away.
    """

    def __init__(self, config: RouterConfig, redis: Redis) -> None:
        keys = Keys(mesh=config.mesh)
        self._config = config
        self._services = contract.services()
        self._redis = redis
        self._keys = keys
        book = LeaseBook(redis, keys)
        self._registry = Registry(book, memory=Memory(config.folder, config.mesh))
        self._desired = Desired(redis, keys)
        self._drains = Drains(redis, keys)
        slow_s = config.trace_slow_ms / 1000
        self._traces = Traces(redis, keys, bound_bytes=config.trace_mb << 20, slow_s=slow_s)
        self.spans = TraceStore(self._traces, Tail(slow_s=slow_s, per_s=config.trace_ordinary_per_s))
        self._wanted: Mapping[str, int] = {}
        self._settings = plan_settings(config)
        self._planner = Planner(self._settings)
        self.cache = SnapshotCache(self._planner.snapshot)
        self._view = MeshView(config, redis, keys, book, self._registry, self.cache)
        self._load = LoadWatch(lambda: self._registry.replicas)
        self.ads = AdsService(self.cache, self._view.rejected)
        self._health = health.aio.HealthServicer()
        self._confirmed: set[str] = set()
        self._confirming: set[asyncio.Task[None]] = set()

    def gateway_hung(self, message: str) -> None:
        """The gateway of this router hung and was killed; `message` tells it."""
        self._view.chronicle.hung(f"gateway {self._config.gateway_listen}", message)

    async def serve(self) -> grpc.aio.Server:
        """Starts the server of discovery, RouterService, health, reflection and refusals.

        Raises:
            RuntimeError: the address can't be listened on.
        """
        limit = self._config.max_message_bytes
        server = grpc.aio.server(
            options=[
                # Discovery's messages are larger than what some meshes take from callers.
                ("grpc.max_receive_message_length", max(limit, MAX_MESSAGE_BYTES)),
                ("grpc.max_send_message_length", -1),
                # A second router on the same port must fail, not share it.
                ("grpc.so_reuseport", 0),
                # Envoy and clients ping the stream that they wait on for changes.
                *PINGS_ALLOWED,
            ]
        )
        server.add_generic_rpc_handlers((self.ads.handler(),))
        domains = [service.name for service in self._services.values() if service.domain]
        servicer = RouterService(self._registry, domains, lambda: self._wanted, self._view, self._load)
        add_servicer(server, ROUTER_SERVICE, servicer)
        discovery = Discovery(self._config.router_listen, self.cache, self.ads)
        admin = AdminService(
            self._redis,
            self._keys,
            domains,
            lambda: self._registry.replicas.values(),
            discovery.describe,
        )
        add_servicer(server, ADMIN_SERVICE, admin)
        add_servicer(server, TRACE_SERVICE, TraceService(self._traces))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self.spans, server)  # type: ignore[no-untyped-call]
        inference = MeshInference(lambda: self._registry.replicas, admin)
        add_servicer(server, INFERENCE_SERVICE, inference)
        add_servicer(server, REST_SERVICE, inference)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [INFERENCE_SERVICE, *(service.full_name for service in self._services.values())]
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server, pool=_descriptors()
        )
        # The last handler: whoever gets here asked for what no other one serves.
        server.add_generic_rpc_handlers((Fallback(lambda: self._registry.replicas, self._services),))
        server.add_insecure_port(self._config.router_listen)
        await self._report_health()
        await server.start()
        return server

    async def serve_http(self) -> HttpListener | None:
        """Starts the HTTP listener of metrics and Prometheus's service discovery; None if it is off.

        Raises:
            OSError: the address can't be listened on.
        """
        if self._config.router_http_listen == "off":
            return None
        socket = envoy.admin_socket(self._config.folder) if self._config.gateway_listen else None
        state = RouterState(self.cache, self.ads, self._registry, self._view, self.spans)
        listener = HttpListener(state, lambda: targets(self._registry.replicas, self._view.routers), socket)
        self._view.listens(await listener.start(self._config.http_listen))
        return listener

    async def run(self) -> None:
        """Follows leases and wishes, plans, and acts where this router leads, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._registry.run(), name="registry")
            group.create_task(self._follow_desired(), name="desired")
            group.create_task(self._plan(), name="planner")
            group.create_task(self._view.run(), name="mesh")
            group.create_task(self.spans.run(), name="traces")
            group.create_task(self._load.run(), name="load")
            group.create_task(LogLevels(self._redis, self._keys).follow(["router"]), name="log level")

    async def _plan(self) -> None:
        while True:
            await self._registry.changed.wait()
            self._registry.changed.clear()
            names, replicas = self._registry.take_changes(), self._registry.replicas
            snapshot = self._planner.update(
                names, replicas, complete=self._registry.known, ejected=self._view.ejected
            )
            generation = self.cache.publish(snapshot)
            log.info("generation %d: %s", generation, snapshot)
            await self._report_health()
            self._confirm_drains(names, generation)
            await asyncio.sleep(PUBLISH_INTERVAL_S)

    def _confirm_drains(self, changed: set[str], generation: int) -> None:
        for name in changed:
            replica = self._registry.replicas.get(name)
            if replica is None or replica.state != router_pb2.REPLICA_STATE_DRAINING:
                self._confirmed.discard(name)
            elif name not in self._confirmed:
                self._confirmed.add(name)
                process = process_of(replica)
                task = asyncio.create_task(self._confirm(process, generation), name=f"drain of {process}")
                self._confirming.add(task)
                task.add_done_callback(self._confirming.discard)

    async def _confirm(self, process: str, generation: int) -> None:
        """Tells a draining replica once no client of this router holds a snapshot that has it."""
        try:
            async with asyncio.timeout(CONFIRM_S):
                await self.cache.taken(generation)
                while not await self._told(process):  # noqa: ASYNC110 - Redis tells nobody that it is back
                    await asyncio.sleep(0.1)
        except TimeoutError:
            log.warning("a client still holds a snapshot with %s after %g s", process, CONFIRM_S)

    async def _told(self, process: str) -> bool:
        try:
            await self._drains.confirm(process, self._view.name)
        except REDIS_AWAY as error:
            log.warning("%s can't be told that it is out of all snapshots: %s", process, error)
            return False
        log.info("%s is out of all snapshots", process)
        return True

    async def _follow_desired(self) -> None:
        async with contextlib.aclosing(self._desired.watch()) as wishes:
            async for self._wanted in wishes:
                pass

    async def _report_health(self) -> None:
        """Says of each service whether the mesh can serve it, and of the router itself that it runs."""
        ready = self._planner.serving
        statuses = {
            service.full_name: service.name in ready for service in self._services.values() if service.domain
        }
        for name, serves in {"": True, ROUTER_SERVICE: True, **statuses}.items():
            codes = health_pb2.HealthCheckResponse
            await self._health.set(name, codes.SERVING if serves else codes.NOT_SERVING)


def plan_settings(config: RouterConfig) -> PlanSettings:
    """What `config` means for the plan."""
    services = contract.services()
    traced = tracing(config.mesh, config.sampled_percent) if config.otlp else None
    listeners: list[Resource] = []
    filters: Mapping[str, Values] | None = None
    for address in config.all_gateways:
        gateway = GatewaySettings(
            listen=address,
            max_message_bytes=config.max_message_bytes,
            hash_fields=hash_fields(config.policies),
            tracing=traced,
        )
        if config.cors_origins:
            gateway = replace(gateway, cors_origins=config.cors_origins)
        listeners.append(gateway_listener(gateway, services.values(), contract.descriptor_set(), config.mesh))
        filters = cors(gateway)
    return PlanSettings(
        services=services,
        routers=config.discovery,
        policies=config.policies,
        gateways=tuple(listeners),
        gateway_filters=filters,
        max_request_bytes=framed(config.max_message_bytes),
    )


def _descriptors() -> descriptor_pool.DescriptorPool:
    """All protos of the mesh, for reflection; the modules made from them need not be imported."""
    pool = descriptor_pool.DescriptorPool()
    files = [
        *descriptor_pb2.FileDescriptorSet.FromString(contract.descriptor_set()).file,
        *(_file(module.DESCRIPTOR) for module in (health_pb2, reflection_pb2)),
    ]
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _file(descriptor: object) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)  # type: ignore[attr-defined]
    return file

"""RouterService: what runs in the mesh, as its leases say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc

from meshwork.errors import InvalidArgument, ResourceExhausted, Unavailable
from meshwork.router.v1 import router_pb2, router_pb2_grpc
from meshwork.serving.fields import count, page
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.events import is_event_id
from services.router.load_watch import LoadWatch
from services.router.mesh_view import MeshView
from services.router.registry import FellBehind, Registry

REPLY_S = 2.0  # the longest that Redis may take to give events


def models_of(replicas: Iterable[router_pb2.Replica], service: str = "") -> list[router_pb2.ServedModel]:
    """The model versions that `replicas` report, by service, name and version.

    One that is ready somewhere is described as a replica that has it ready does.
    """
    found: dict[tuple[str, str, str], router_pb2.ServedModel] = {}
    for replica in sorted(replicas, key=lambda replica: replica.name):
        for model in replica.models:
            if service and replica.service != service:
                continue
            key = replica.service, model.name, model.version
            ready = model.state == router_pb2.MODEL_STATE_READY
            served = found.setdefault(key, router_pb2.ServedModel(model=model))
            if ready and not served.replicas:
                served.model.CopyFrom(model)
            if ready:
                served.replicas.append(replica.name)
    return [found[key] for key in sorted(found)]


class RouterService(router_pb2_grpc.RouterServiceServicer):
    """Answers from the registry.

    Args:
        domains: names of the services of the contract, listed even while nothing runs.
        desired: gives the number of replicas asked for, by service.
        view: knows the rest.
        load: asks replicas for theirs.
    """

    def __init__(
        self,
        registry: Registry,
        domains: Iterable[str],
        desired: Callable[[], Mapping[str, int]],
        view: MeshView,
        load: LoadWatch,
    ) -> None:
        self._registry = registry
        self._domains = frozenset(domains)
        self._desired = desired
        self._view = view
        self._load = load

    async def ListServices(
        self, request: router_pb2.ListServicesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_pb2.ListServicesResponse:
        """The services, by name."""
        replicas = list(self._registry.replicas.values())
        desired = self._desired()
        names = self._domains | desired.keys() | {replica.service for replica in replicas}
        services = []
        for name in sorted(names):
            own = [replica for replica in replicas if replica.service == name]
            service = router_pb2.Service(
                name=name,
                replicas=len(own),
                ready_replicas=sum(replica.state == router_pb2.REPLICA_STATE_READY for replica in own),
                desired_replicas=desired.get(name, 0),
                models=[f"{served.model.name}@{served.model.version}" for served in models_of(own)],
            )
            services.append(service)
        entries, token = page(services, request.page_size, request.page_token)
        return router_pb2.ListServicesResponse(services=entries, next_page_token=token)

    async def ListReplicas(
        self, request: router_pb2.ListReplicasRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_pb2.ListReplicasResponse:
        """The replicas, by service and name."""
        replicas = sorted(
            (
                replica
                for replica in self._registry.replicas.values()
                if request.service in ("", replica.service)
            ),
            key=lambda replica: (replica.service, replica.name),
        )
        entries, token = page(replicas, request.page_size, request.page_token)
        response = router_pb2.ListReplicasResponse(replicas=entries, next_page_token=token)
        ejection_of = self._view.ejection()
        for replica in response.replicas:
            ejection = ejection_of(replica.name)
            if ejection is not None:
                replica.ejection.CopyFrom(ejection)
        return response

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_pb2.ListModelsResponse:
        """The model versions, by service, name and version."""
        models = models_of(self._registry.replicas.values(), request.service)
        entries, token = page(models, request.page_size, request.page_token)
        return router_pb2.ListModelsResponse(models=entries, next_page_token=token)

    async def Watch(
        self, request: router_pb2.WatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[router_pb2.WatchResponse]:
        """The replicas there are, and then each change."""
        # Headers at once: until the first change there may be nothing else to send.
        await context.send_initial_metadata(())
        async with contextlib.aclosing(self._registry.watch()) as changes:
            try:
                async for change in changes:
                    if request.service in ("", change.replica.service):
                        yield router_pb2.WatchResponse(type=change.type, replica=change.replica)
            except FellBehind:
                raise ResourceExhausted(
                    "changes came faster than this watcher took them; watch again", reason="WATCH_FELL_BEHIND"
                ) from None

    async def GetMesh(
        self, request: router_pb2.GetMeshRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_pb2.GetMeshResponse:
        """How the control plane is; answered from memory."""
        return self._view.describe()

    async def ListEvents(
        self, request: router_pb2.ListEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_pb2.ListEventsResponse:
        """The events there are, the newest first."""
        size = count("page_size", request.page_size, default=100, high=1000)
        before = ""
        if request.page_token:
            with contextlib.suppress(ValueError):
                before = base64.urlsafe_b64decode(request.page_token.encode()).decode()
            if not is_event_id(before):
                raise InvalidArgument("is not a next_page_token of this method", field="page_token")
        try:
            async with asyncio.timeout(REPLY_S):
                found, last = await self._view.events.page(
                    size, service=request.service, subject=request.subject, before=before
                )
        except REDIS_AWAY as error:  # TimeoutError is one of them
            raise _no_events() from error
        token = base64.urlsafe_b64encode(last.encode()).decode()
        return router_pb2.ListEventsResponse(events=found, next_page_token=token)

    async def WatchEvents(
        self, request: router_pb2.WatchEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[router_pb2.WatchEventsResponse]:
        """Each event from now on."""
        try:
            async with asyncio.timeout(REPLY_S):
                last = await self._view.events.newest()
        except REDIS_AWAY as error:
            raise _no_events() from error
        await context.send_initial_metadata(())
        async with contextlib.aclosing(self._view.events.watch(last)) as events:
            async for event in events:
                if request.service in ("", event.service):
                    yield router_pb2.WatchEventsResponse(event=event)

    async def WatchLoad(
        self, request: router_pb2.WatchLoadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[router_pb2.WatchLoadResponse]:
        """The load now, and every two seconds."""
        await context.send_initial_metadata(())
        async with contextlib.aclosing(self._load.watch()) as found:
            async for response in found:
                yield of_service(response, request.service) if request.service else response


def of_service(response: router_pb2.WatchLoadResponse, service: str) -> router_pb2.WatchLoadResponse:
    """What of `response` is about `service`."""
    own = router_pb2.WatchLoadResponse(window_s=response.window_s, silent_replicas=response.silent_replicas)
    own.time.CopyFrom(response.time)
    own.loads.extend(load for load in response.loads if load.service == service)
    return own


def _no_events() -> Unavailable:
    return Unavailable("Redis, which keeps the events, does not answer; try again")

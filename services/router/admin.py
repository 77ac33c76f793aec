"""AdminService: wishes about models, checked against what the mesh has and written to Redis.

And a look inside: what this router tells whom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, Protocol

import grpc
from pydantic import ValidationError
from redis.asyncio import Redis

from meshwork.admin.v1 import admin_pb2
from meshwork.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from meshwork.model_config import ModelConfig
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving.fields import text
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.wishes import Wish, Wishes
from services.router.operations import Operations

Context = grpc.aio.ServicerContext[Any, Any]


class _Named(Protocol):
    """A request that names a model."""

    name: str
    service: str


class AdminService(Operations):
    """Writes wishes, and orders.

    Args:
        domains: the services that models can be added to.
        replicas: gives the replicas that hold a lease.
        discovery: describes what this router tells whom.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        domains: Iterable[str],
        replicas: Callable[[], Iterable[router_pb2.Replica]],
        discovery: Callable[[admin_pb2.GetDiscoveryRequest], admin_pb2.GetDiscoveryResponse],
    ) -> None:
        super().__init__(redis, keys, domains, replicas)
        self._wishes = Wishes(redis, keys)
        self._discovery = discovery

    async def AddModel(
        self, request: admin_pb2.AddModelRequest, context: Context
    ) -> admin_pb2.AddModelResponse:
        """Asks the replicas of a service to serve one more model version."""
        if request.service not in self._domains:
            raise InvalidArgument(
                f"should be one of {', '.join(self._domains)}, not {request.service!r}", field="service"
            )
        config = _config(request)
        for model in self._models(request.service):
            taken = request.version in ("", model.version)
            if model.name == request.name and taken and model.state != router_pb2.MODEL_STATE_FAILED:
                raise FailedPrecondition(
                    f"{request.service} has {model.name}@{model.version} already, and versions never change: "
                    "give another one, or remove it first"
                )
        await self._make(
            Wish(
                service=request.service,
                name=request.name,
                version=request.version,
                state="loaded",
                config=config,
            )
        )
        added = f"{request.name}@{request.version}" if request.version else request.name
        await self._say(f"asked to be added, from {request.source}", request.service, added)
        count = sum(replica.service == request.service for replica in self._replicas())
        return admin_pb2.AddModelResponse(replica_count=count)

    async def LoadModel(
        self, request: admin_pb2.LoadModelRequest, context: Context
    ) -> admin_pb2.LoadModelResponse:
        """Asks the replicas to load a model."""
        service, model = await self._ask(request, "loaded")
        return admin_pb2.LoadModelResponse(service=service, model=model)

    async def UnloadModel(
        self, request: admin_pb2.UnloadModelRequest, context: Context
    ) -> admin_pb2.UnloadModelResponse:
        """Asks the replicas to unload a model."""
        service, model = await self._ask(request, "unloaded")
        return admin_pb2.UnloadModelResponse(service=service, model=model)

    async def RemoveModel(
        self, request: admin_pb2.RemoveModelRequest, context: Context
    ) -> admin_pb2.RemoveModelResponse:
        """Asks the replicas to forget a model."""
        service, model = await self._ask(request, "removed")
        return admin_pb2.RemoveModelResponse(service=service, model=model)

    async def GetDiscovery(
        self, request: admin_pb2.GetDiscoveryRequest, context: Context
    ) -> admin_pb2.GetDiscoveryResponse:
        """Shows what this router tells Envoy and gRPC clients, and how each took it."""
        return self._discovery(request)

    def _models(self, service: str) -> list[router_pb2.Model]:
        return [
            model
            for replica in self._replicas()
            if service in ("", replica.service)
            for model in replica.models
        ]

    async def _ask(self, request: _Named, state: Literal["loaded", "unloaded", "removed"]) -> tuple[str, str]:
        """Makes a wish about a model that replicas have; gives its service and `name@version`."""
        name, _, version = text("name", request.name, longest=200).partition("@")
        found = {
            (model.service, model.version)
            for model in self._models(request.service)
            if model.name == name and version in ("", model.version)
        }
        if not found:
            ids = sorted({f"{each.name}@{each.version}" for each in self._models(request.service)})
            raise ModelNotFound.among(request.name, request.service, ids)
        services = sorted({service for service, _ in found})
        if len(services) > 1:
            raise InvalidArgument(
                f"{request.name} is a model of {' and of '.join(services)}; say which", field="service"
            )
        version = max((version for _, version in found), key=version_order)
        known = await self._known()
        fresh = Wish(service=services[0], name=name, version=version, state=state)
        # One that was added without a version is known by that.
        earlier = known.get(fresh.key) or known.get(replace(fresh, version="").key) or fresh
        await self._make(replace(earlier, state=state, model=f"{name}@{version}"))
        await self._say(f"asked to be {state}", services[0], f"{name}@{version}")
        return services[0], f"{name}@{version}"

    async def _known(self) -> dict[str, Wish]:
        try:
            return await self._wishes.all()
        except REDIS_AWAY as error:
            raise _away() from error

    async def _make(self, wish: Wish) -> None:
        try:
            await self._wishes.make(wish)
        except REDIS_AWAY as error:
            raise _away() from error


def _away() -> Unavailable:
    return Unavailable("Redis, which keeps what is asked of models, does not answer; try again")


def _config(request: admin_pb2.AddModelRequest) -> ModelConfig:
    text("name", request.name)
    text("source", request.source)
    try:
        parameters = json.loads(request.parameters or "{}")
    except ValueError as error:
        raise InvalidArgument(f"should be a JSON object: {error}", field="parameters") from error
    try:
        return ModelConfig(
            source=request.source,
            name=request.name,
            version=request.version,
            task=request.task,
            default=request.default,
            device=request.device,
            load="demand" if request.on_demand else "start",
            engine=request.engine,  # type: ignore[arg-type]  # checked when built
            precision=request.precision,  # type: ignore[arg-type]  # checked when built
            tolerance=request.tolerance,
            providers=tuple(request.providers),
            parameters=parameters,
            allow_pickle=tuple(request.allow_pickle),
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "name"
        raise InvalidArgument(f"{first['msg']}, not {first['input']!r}", field=field) from error

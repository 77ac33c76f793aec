"""The Open Inference Protocol for the mesh as a whole: what is asked of no one model.

The gateway sends here what names no model, and what names one that no replica has ready.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.api import httpbody_pb2

from meshwork.admin.v1 import admin_pb2
from meshwork.errors import FailedPrecondition, InvalidArgument, ModelNotFound, Unavailable
from meshwork.inference.v2 import mesh_rest_pb2  # noqa: F401 - the descriptor of its service
from meshwork.inference.v2 import open_inference_pb2 as pb
from meshwork.router.v1 import router_pb2
from meshwork.serving.oip.repository import index, no_new_configuration, server_metadata
from services.router.admin import AdminService
from services.router.model_versions import named, serving
from services.router.service import models_of

POLL_S = 0.05

Context = grpc.aio.ServicerContext[Any, Any]


class MeshInference:
    """Answers from the registry.

    Args:
        replicas: gives the replicas there are, by name.
        admin: makes wishes about models.
    """

    def __init__(self, replicas: Callable[[], Mapping[str, router_pb2.Replica]], admin: AdminService) -> None:
        self._replicas = replicas
        self._admin = admin

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Whether a model is ready somewhere."""
        return pb.ServerReadyResponse(ready=bool(serving(self._replicas().values())))

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """What the server is."""
        return pb.ServerMetadataResponse(**server_metadata())

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """The models of all services."""
        entries = self._index(ready=request.ready)
        return pb.RepositoryIndexResponse(
            models=[pb.RepositoryIndexResponse.ModelIndex(**entry) for entry in entries]
        )

    async def Index(self, request: pb.RepositoryIndexRequest, context: Context) -> httpbody_pb2.HttpBody:
        """The same for REST."""
        body = json.dumps(self._index(ready=request.ready)).encode()
        return httpbody_pb2.HttpBody(content_type="application/json", data=body)

    def _index(self, *, ready: bool) -> list[dict[str, str]]:
        """The models by name; one whose name is taken by another service's is `SERVICE/NAME`."""
        owners: dict[str, str] = {}
        models = []
        for served in models_of(self._replicas().values()):
            model = router_pb2.Model()
            model.CopyFrom(served.model)
            if owners.setdefault(model.name, model.service) != model.service:
                model.name = f"{model.service}/{model.name}"
            models.append(model)
        return index(models, ready=ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """False: a model that is ready answers for itself."""
        return pb.ModelReadyResponse(ready=False)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Says which models there are."""
        self._refuse(request.name, request.version, "name")

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """Says which models there are."""
        self._refuse(request.name, request.version, "name")

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Says which models there are; each replica has the figures of its own."""
        self._refuse(request.name, request.version, "name")

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Says which models there are."""
        self._refuse(request.model_name, request.model_version, "model_name")

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Says which models there are."""
        async for request in requests:
            self._refuse(request.model_name, request.model_version, "model_name")
            yield pb.ModelStreamInferResponse()

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model wherever it is known; answers once it is ready."""
        if request.parameters:
            raise no_new_configuration("parameters")
        service, name = _split(request.model_name)
        asked = admin_pb2.LoadModelRequest(service=service, name=name)
        done = await self._admin.LoadModel(asked, context)
        await self._until(done.service, done.model, router_pb2.MODEL_STATE_READY)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model wherever it is loaded; answers once it is."""
        service, name = _split(request.model_name)
        asked = admin_pb2.UnloadModelRequest(service=service, name=name)
        done = await self._admin.UnloadModel(asked, context)
        await self._until(done.service, done.model, router_pb2.MODEL_STATE_UNLOADED)
        return pb.RepositoryModelUnloadResponse()

    async def _until(self, service: str, model: str, state: router_pb2.ModelState.ValueType) -> None:
        """Waits until the model is in `state` on every replica that has it.

        Raises:
            FailedPrecondition: one could not load it.
        """
        waiting = True
        while waiting:
            await asyncio.sleep(POLL_S)
            states = [
                (replica.name, each.state, each.error)
                for replica in self._replicas().values()
                for each in replica.models
                if replica.service == service and f"{each.name}@{each.version}" == model
            ]
            waiting = any(known != state for _, known, _ in states)
            for replica, known, error in states:
                if known == router_pb2.MODEL_STATE_FAILED:
                    raise FailedPrecondition(f"{replica} cannot load {model}: {error}")

    def _refuse(self, name: str, version: str, field: str) -> NoReturn:
        table = serving(self._replicas().values())
        models = named(table)
        listed = [known for known in sorted(models) if "@" in known and "/" not in known]
        if not name:
            raise InvalidArgument(f"should name a model: {', '.join(listed) or 'none is ready'}", field=field)
        model = f"{name}@{version}" if version else name
        if model in models:  # the caller's snapshot was older than ours
            raise Unavailable(f"{model} has just become ready, try again", retry_after_s=0.1)
        raise ModelNotFound(
            f"{field}: no model {model!r} in this mesh; it has: {', '.join(listed) or 'none'}",
            kind="model",
            name=model,
            metadata={"models": ", ".join(listed) or "none"},
        )


def _split(name: str) -> tuple[str, str]:
    """Service, or "", and model of a request's name."""
    service, slash, model = name.rpartition("/")
    return service, model if slash else name

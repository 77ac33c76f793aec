"""`inference.GRPCInferenceService` of a replica: the protocol in gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from meshwork.inference.v2 import open_inference_pb2 as pb
from meshwork.serving.call import Call, CallContext
from meshwork.serving.oip.inference import Inference, within
from meshwork.serving.oip.messages import given, large, parameter, respond, wanted
from meshwork.serving.oip.repository import no_new_configuration, server_metadata
from meshwork.serving.oip.streams import Answer, stream_infer

_Named = pb.ModelReadyRequest | pb.ModelMetadataRequest | pb.ModelConfigRequest | pb.ModelStatisticsRequest


class InferenceService:
    """Answers by a replica's `Inference`."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def ServerLive(self, request: pb.ServerLiveRequest, context: CallContext) -> pb.ServerLiveResponse:
        """True."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: CallContext
    ) -> pb.ServerReadyResponse:
        """Whether a model is ready."""
        return pb.ServerReadyResponse(ready=self._inference.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: CallContext) -> pb.ModelReadyResponse:
        """Whether that model is ready."""
        return pb.ModelReadyResponse(ready=self._inference.model_ready(self._model(request)))

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: CallContext
    ) -> pb.ServerMetadataResponse:
        """What the server is."""
        return pb.ServerMetadataResponse(**server_metadata())

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: CallContext
    ) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        found = await self._inference.metadata(self._model(request), Call.of(context))
        return pb.ModelMetadataResponse(**found)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: CallContext) -> pb.ModelInferResponse:
        """Runs a model."""
        return await self._infer(Call.of(context), request)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: CallContext
    ) -> AsyncIterator[Answer]:
        """Runs models on requests as they come."""
        infer = partial(self._infer, Call.of(context))
        async with aclosing(stream_infer(requests, context, infer)) as answers:
            async for answer in answers:
                yield answer

    async def _infer(self, call: Call, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        model = self._inference.name(request.model_name, request.model_version, field="model_name")
        if request.parameters:
            call = within(call, parameter(request.parameters, "timeout"))
        outputs = wanted(request) if request.outputs else ()
        answer = await self._inference.infer(model, given(request), outputs, call, large=large(request))
        response = respond(request, answer.outputs, answer.parameters())
        response.model_name = answer.served_by.model
        response.model_version = answer.served_by.version
        return response

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: CallContext
    ) -> pb.ModelConfigResponse:
        """A model's configuration, in Triton's words."""
        found = await self._inference.configuration(self._model(request), Call.of(context))
        return pb.ModelConfigResponse(config=pb.ModelConfig(**found))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: CallContext
    ) -> pb.ModelStatisticsResponse:
        """How a model was used, or each of them."""
        model = self._model(request) if request.name else ""
        stats = [pb.ModelStatistics(**each) for each in self._inference.statistics(model)]
        return pb.ModelStatisticsResponse(model_stats=stats)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: CallContext
    ) -> pb.RepositoryIndexResponse:
        """The replica's models."""
        models = [
            pb.RepositoryIndexResponse.ModelIndex(**each)
            for each in self._inference.index(ready=request.ready)
        ]
        return pb.RepositoryIndexResponse(models=models)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: CallContext
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model that the replica knows."""
        if request.parameters:
            raise no_new_configuration("parameters")
        await self._inference.load(self._inference.name(request.model_name, "", field="model_name"))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: CallContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Takes a model out of memory."""
        await self._inference.unload(self._inference.name(request.model_name, "", field="model_name"))
        return pb.RepositoryModelUnloadResponse()

    def _model(self, request: _Named) -> str:
        return self._inference.name(request.name, request.version, field="name")

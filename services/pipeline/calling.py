"""Calls of steps: to the replicas themselves through `xds:///SERVICE` channels, one a service.

A call carries its pipeline's deadline, priority, caller and trace, and is a CLIENT span of that trace.
"""

from __future__ import annotations

import os
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message

from meshwork import channel as channels
from meshwork import spans
from meshwork.calls import told
from meshwork.errors import ConfigError, MeshworkError, from_rpc_error
from meshwork.names import CALLER_HEADER, PRIORITY_HEADER
from meshwork.serving.call import Call, Priority
from services.pipeline.plan import Step

_BOOTSTRAPS = ("GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG")


class Caller:
    """Calls the methods of services; their channels are made when first needed.

    Args:
        routers: `host:port` of routers, by comma; not needed where gRPC's own variables say it.
        zone: where this process is, for services that prefer near replicas.

    Raises:
        ConfigError: nobody says where the routers are.
    """

    def __init__(self, routers: str, zone: str = "") -> None:
        if not routers and not any(os.environ.get(name) for name in _BOOTSTRAPS):
            raise ConfigError("MESHWORK_ROUTERS: should be host:port of a router, by comma if several")
        if routers:
            try:
                channels.use_xds(routers, zone)
            except MeshworkError as error:
                raise ConfigError(f"MESHWORK_ROUTERS: {error}") from error
        # The routers say how calls are balanced and repeated.
        self._options = channels.options("{}")
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: dict[str, Any] = {}

    async def call(self, step: Step, request: Message, on_behalf: Call) -> Message:
        """Calls a step's method.

        Args:
            on_behalf: the pipeline's own call.

        Raises:
            MeshworkError: it failed, or there is no time left for it.
        """
        service, method = step.method.containing_service.full_name, step.method.name
        left_s = on_behalf.remaining_s()
        metadata = [(CALLER_HEADER, on_behalf.caller), *told(request)]
        if on_behalf.priority is not Priority.DEFAULT:
            metadata.append((PRIORITY_HEADER, on_behalf.priority.name.lower()))
        with spans.calling(service, method, {"meshwork.step": step.name}) as trace:
            try:
                answer: Message = await self._method(step)(
                    request, timeout=left_s, metadata=(*metadata, *trace)
                )
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
        return answer

    def _method(self, step: Step) -> Any:
        if step.path not in self._calls:
            if step.service not in self._channels:
                target = channels.target(channels.XDS, step.service)
                self._channels[step.service] = grpc.aio.insecure_channel(target, options=self._options)
            response = message_factory.GetMessageClass(step.method.output_type)
            self._calls[step.path] = self._channels[step.service].unary_unary(
                f"/{step.method.containing_service.full_name}/{step.method.name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=response.FromString,
            )
        return self._calls[step.path]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()

"""Answers every call that no replica can take, and says why.

Envoy and gRPC clients send here what the snapshot has no replica for: a model that does not exist,
a service of which nothing is ready, a method that is in no proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import grpc

from meshwork.errors import MeshworkError, ModelNotFound, Unavailable, Unimplemented
from meshwork.names import MODEL_HEADER
from meshwork.router.v1 import router_pb2
from meshwork.rpc import abort
from services.router.contract import Service
from services.router.model_versions import default_models, live_versions, serving

RETRY_AFTER_S = 1.0

Replicas = Callable[[], Mapping[str, router_pb2.Replica]]


def explain(
    path: str, model: str, replicas: Mapping[str, router_pb2.Replica], services: Mapping[str, Service]
) -> MeshworkError:
    """Why the call of `path` for `model` ("" for the default) ended here."""
    full_name, _, method = path.removeprefix("/").partition("/")
    service = next((known for known in services.values() if known.full_name == full_name), None)
    if service is None:
        there = ", ".join(sorted(known.full_name for known in services.values()))
        return Unimplemented(f"there is no service {full_name!r} in this mesh; it has: {there}")
    if method not in service.methods:
        there = ", ".join(sorted(service.methods))
        return Unimplemented(f"{full_name} has no method {method!r}; it has: {there}")
    own = [replica for replica in replicas.values() if replica.service == service.name]
    table = serving(own)
    if not table:
        return _none_ready(service.name, own)
    known = {each.name for each in table} | set(live_versions(table, service.name))
    if model and model not in known:
        return ModelNotFound.among(model, service.name, sorted(each.name for each in table))
    if not model and method not in default_models(table, service.name):
        return ModelNotFound(
            f"model: no model of service {service.name} is the default of {method}; name one of: "
            + ", ".join(sorted(each.name for each in table)),
            kind="model",
            metadata={"service": service.name, "models": ", ".join(sorted(each.name for each in table))},
        )
    # It is there by now: the caller's snapshot was older than ours.
    return Unavailable(
        f"service {service.name} has just become ready, try again",
        metadata={"service": service.name},
        retry_after_s=0.1,
    )


def _none_ready(service: str, own: list[router_pb2.Replica]) -> Unavailable:
    counts = {
        "starting": sum(replica.state == router_pb2.REPLICA_STATE_STARTING for replica in own),
        "draining": sum(replica.state == router_pb2.REPLICA_STATE_DRAINING for replica in own),
        "without a ready model": sum(replica.state == router_pb2.REPLICA_STATE_READY for replica in own),
    }
    having = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "it has none"
    return Unavailable(
        f"service {service} has no ready replica ({having})",
        reason="NO_REPLICA",
        metadata={"service": service},
        retry_after_s=RETRY_AFTER_S,
    )


class Fallback(grpc.GenericRpcHandler):
    """Ends each call of a method that the server has no other handler for."""

    def __init__(self, replicas: Replicas, services: Mapping[str, Service]) -> None:
        self._replicas = replicas
        self._services = services

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of whatever is called; the request is not read."""
        path = handler_call_details.method

        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            metadata = dict(context.invocation_metadata() or ())
            model = unquote(str(metadata.get(MODEL_HEADER, "")))
            await abort(context, explain(path, model, self._replicas(), self._services))

        # As streams, so that the request, however large, is not waited for.
        return grpc.stream_stream_rpc_method_handler(refuse, None, None)

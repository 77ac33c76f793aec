"""The two messages of the incremental protocol (delta xDS), in which only changes are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshwork.xds.snapshot import Resource
from meshwork.xds.wire import CLASSES, Node, error_of, node_of, sign


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaRequest:
    """What a client asks for from now on, or no longer, or how it took an answer.

    Attributes:
        subscribe: names that it wants; `*` for all, and none in the first request of a type too.
        unsubscribe: names that it wants no longer.
        versions: by name, what it has from an earlier stream; only in the first request of a type.
        nonce: of the answer that this request replies to; "" if it replies to none.
        error: why it rejected that answer; "" if it accepted it.
        node: None unless the request carries it, which only the first of a stream must.
    """

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str = ""
    node: Node | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaResponse:
    """An answer: what changed, and the names of what is no more."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()


def parse_delta_request(raw: bytes) -> DeltaRequest:
    """Reads an envoy.service.discovery.v3.DeltaDiscoveryRequest.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    message = CLASSES["DeltaDiscoveryRequest"].FromString(raw)
    return DeltaRequest(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions={entry.key: entry.value for entry in message.initial_resource_versions},
        nonce=message.response_nonce,
        error=error_of(message),
        node=node_of(message),
    )


def encode_delta_request(request: DeltaRequest) -> bytes:
    """Writes what `parse_delta_request` reads."""
    message = CLASSES["DeltaDiscoveryRequest"](
        type_url=request.type_url,
        resource_names_subscribe=request.subscribe,
        resource_names_unsubscribe=request.unsubscribe,
        response_nonce=request.nonce,
    )
    for name, version in request.versions.items():
        message.initial_resource_versions.add(key=name, value=version)
    sign(message, request.error, request.node)
    encoded: bytes = message.SerializeToString()
    return encoded


def encode_delta_response(response: DeltaResponse) -> bytes:
    """Writes an envoy.service.discovery.v3.DeltaDiscoveryResponse."""
    message = CLASSES["DeltaDiscoveryResponse"](
        type_url=response.type_url,
        system_version_info=response.version,
        nonce=response.nonce,
        removed_resources=response.removed,
    )
    for resource in response.resources:
        added = message.resources.add(name=resource.name, version=resource.version)
        added.resource.type_url, added.resource.value = response.type_url, resource.body
    encoded: bytes = message.SerializeToString()
    return encoded


def parse_delta_response(raw: bytes) -> DeltaResponse:
    """Reads what `encode_delta_response` writes."""
    message = CLASSES["DeltaDiscoveryResponse"].FromString(raw)
    return DeltaResponse(
        type_url=message.type_url,
        version=message.system_version_info,
        nonce=message.nonce,
        resources=tuple(Resource(each.name, each.resource.value) for each in message.resources),
        removed=tuple(message.removed_resources),
    )

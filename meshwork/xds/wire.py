"""The messages of the discovery protocol, reduced to the fields that a server of it uses.

They are declared here in a pool of their own, with the names and numbers of
envoy/service/discovery/v3/discovery.proto: the protobuf runtime then reads a request (an Envoy's
first one lists hundreds of its extensions) some fifty times faster than typed dataclasses do, and
nothing is registered that another package's copy of the same protos could clash with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
ADS_METHOD = f"{_SERVICE}/StreamAggregatedResources"
DELTA_METHOD = f"{_SERVICE}/DeltaAggregatedResources"

_STRING, _BYTES, _INT32, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)

# message -> (field, number, type or message, repeated)
_SCHEMA: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "Node": (
        ("id", 1, _STRING, False),
        ("cluster", 2, _STRING, False),
        ("locality", 4, "Locality", False),
        ("user_agent_name", 6, _STRING, False),
    ),
    "Locality": (("zone", 2, _STRING, False),),
    "Status": (("code", 1, _INT32, False), ("message", 2, _STRING, False)),
    "Any": (("type_url", 1, _STRING, False), ("value", 2, _BYTES, False)),
    "DiscoveryRequest": (
        ("version_info", 1, _STRING, False),
        ("node", 2, "Node", False),
        ("resource_names", 3, _STRING, True),
        ("type_url", 4, _STRING, False),
        ("response_nonce", 5, _STRING, False),
        ("error_detail", 6, "Status", False),
    ),
    "DiscoveryResponse": (
        ("version_info", 1, _STRING, False),
        ("resources", 2, "Any", True),
        ("type_url", 4, _STRING, False),
        ("nonce", 5, _STRING, False),
    ),
    # An entry of a map of strings is a message of these two fields.
    "Entry": (("key", 1, _STRING, False), ("value", 2, _STRING, False)),
    "Resource": (("version", 1, _STRING, False), ("resource", 2, "Any", False), ("name", 3, _STRING, False)),
    "DeltaDiscoveryRequest": (
        ("node", 1, "Node", False),
        ("type_url", 2, _STRING, False),
        ("resource_names_subscribe", 3, _STRING, True),
        ("resource_names_unsubscribe", 4, _STRING, True),
        ("initial_resource_versions", 5, "Entry", True),
        ("response_nonce", 6, _STRING, False),
        ("error_detail", 7, "Status", False),
    ),
    "DeltaDiscoveryResponse": (
        ("system_version_info", 1, _STRING, False),
        ("resources", 2, "Resource", True),
        ("type_url", 4, _STRING, False),
        ("nonce", 5, _STRING, False),
        ("removed_resources", 6, _STRING, True),
    ),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="xds.proto", package="xds", syntax="proto3")
    for name, fields in _SCHEMA.items():
        declared = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = declared.field.add(name=field, number=number)
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            added.type = _MESSAGE if isinstance(kind, str) else kind  # type: ignore[assignment]
            if isinstance(kind, str):
                added.type_name = f".xds.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"xds.{name}")) for name in _SCHEMA
    }


CLASSES = _classes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Who asks.

    Attributes:
        user_agent: the client's software, for example `envoy` or `gRPC C-core linux`.
        zone: where it runs; "" if it does not say.
    """

    id: str = ""
    cluster: str = ""
    user_agent: str = ""
    zone: str = ""

    @property
    def view(self) -> str:
        """The zone from which it must be shown what there is, since it can't choose among zones itself."""
        return self.zone if self.user_agent.lower().startswith("grpc") else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a client asks for, or how it took the last answer.

    Attributes:
        version: of the last answer of this type that it accepted; "" if there was none.
        names: resources that it wants; none means all, for the types where that has a meaning.
        nonce: of the answer that this request replies to; "" for the first one of a type.
        error: why it rejected that answer; "" if it accepted it.
        node: None unless the request carries it, which only the first of a stream must.
    """

    type_url: str
    version: str = ""
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str = ""
    node: Node | None = None


def parse_request(raw: bytes) -> Request:
    """Reads an envoy.service.discovery.v3.DiscoveryRequest.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    message = CLASSES["DiscoveryRequest"].FromString(raw)
    return Request(
        type_url=message.type_url,
        version=message.version_info,
        names=tuple(message.resource_names),
        nonce=message.response_nonce,
        error=error_of(message),
        node=node_of(message),
    )


def node_of(message: Any) -> Node | None:
    """Who sent a request, if it says."""
    if not message.HasField("node"):
        return None
    node = message.node
    return Node(id=node.id, cluster=node.cluster, user_agent=node.user_agent_name, zone=node.locality.zone)


def error_of(message: Any) -> str:
    """Why the sender of a request rejects the last answer; "" if it does not."""
    if not message.HasField("error_detail"):
        return ""
    return message.error_detail.message or f"code {message.error_detail.code}"


def encode_request(request: Request) -> bytes:
    """Writes what `parse_request` reads."""
    message = CLASSES["DiscoveryRequest"](
        type_url=request.type_url,
        version_info=request.version,
        resource_names=request.names,
        response_nonce=request.nonce,
    )
    sign(message, request.error, request.node)
    encoded: bytes = message.SerializeToString()
    return encoded


def sign(message: Any, error: str, node: Node | None) -> None:
    """Writes what `error_of` and `node_of` read."""
    if error:
        message.error_detail.message = error
    if node is not None:
        message.node.id, message.node.cluster = node.id, node.cluster
        message.node.user_agent_name = node.user_agent
        message.node.locality.zone = node.zone


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """An answer: the resources of one type, each as its encoded message."""

    type_url: str
    version: str
    nonce: str
    bodies: tuple[bytes, ...]


def encode_response(response: Response) -> bytes:
    """Writes an envoy.service.discovery.v3.DiscoveryResponse."""
    message = CLASSES["DiscoveryResponse"](
        type_url=response.type_url, version_info=response.version, nonce=response.nonce
    )
    for body in response.bodies:
        message.resources.add(type_url=response.type_url, value=body)
    encoded: bytes = message.SerializeToString()
    return encoded


def parse_response(raw: bytes) -> Response:
    """Reads what `encode_response` writes."""
    message = CLASSES["DiscoveryResponse"].FromString(raw)
    return Response(
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.nonce,
        bodies=tuple(resource.value for resource in message.resources),
    )

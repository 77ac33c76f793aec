"""What the mesh's protos say that routing depends on, read from the descriptor set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

MODEL_FIELD = "model"
_ID_FIELD = "request_id"
_PACKAGE = "meshwork."
_PRIVATE = (
    "meshwork.admin.",
    "meshwork.trace.",
)  # served by routers at their own address, not for all who reach the gateway


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """An rpc.

    Attributes:
        name: for example `Classify`.
        path: for example `/meshwork.vision.v1.VisionService/Classify`.
        takes_model: whether its request names a model.
        changes_nothing: whether it may be called twice without harm.
        remembers: whether its requests have an id by which the service knows one that came before.
        streams: whether either side sends more than one message.
        fields: names of its request's fields.
    """

    name: str
    path: str
    takes_model: bool
    changes_nothing: bool
    remembers: bool
    streams: bool
    fields: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service of the contract.

    Attributes:
        name: for example `vision`.
        full_name: for example `meshwork.vision.v1.VisionService`.
        methods: by name.
    """

    name: str
    full_name: str
    methods: Mapping[str, Method]

    @property
    def domain(self) -> bool:
        """Whether replicas with models serve it, rather than the router."""
        return any(method.takes_model for method in self.methods.values())


@cache
def descriptor_set() -> bytes:
    """The descriptor set of all protos, what they import, and the details of errors.

    Without comments: they are half of it, and neither Envoy nor reflection has use for them. With
    the details, Envoy's transcoder can write an error's body.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(
        resources.files("meshwork").joinpath("descriptors.binpb").read_bytes()
    )
    for module in (duration_pb2, any_pb2, status_pb2, error_details_pb2):
        if module.DESCRIPTOR.name not in {file.name for file in files.file}:
            module.DESCRIPTOR.CopyToProto(files.file.add())
    for file in files.file:
        file.ClearField("source_code_info")
    return files.SerializeToString()


@cache
def services() -> Mapping[str, Service]:
    """The services of the contract, by name."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file
    fields = {
        f".{file.package}.{message.name}": frozenset(field.name for field in message.field)
        for file in files
        for message in file.message_type
    }
    found: dict[str, Service] = {}
    for file in files:
        if not file.package.startswith(_PACKAGE) or file.package.startswith(_PRIVATE):
            continue
        area = file.package.split(".")[1]
        for service in file.service:
            full_name = f"{file.package}.{service.name}"
            methods = {
                method.name: Method(
                    name=method.name,
                    path=f"/{full_name}/{method.name}",
                    takes_model=MODEL_FIELD in fields.get(method.input_type, ()),
                    remembers=_ID_FIELD in fields.get(method.input_type, ()),
                    streams=method.client_streaming or method.server_streaming,
                    fields=fields.get(method.input_type, frozenset()),
                    changes_nothing=method.options.idempotency_level
                    == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
                )
                for method in service.method
            }
            found[area] = Service(name=area, full_name=full_name, methods=methods)
    return found

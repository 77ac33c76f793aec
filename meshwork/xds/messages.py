"""Encodes Envoy messages from plain values, in the JSON notation of Envoy's documentation.

The descriptors (`tools/envoy_descriptors.py` makes them) live in a pool of their own, so nothing is
registered that another package's copy of the same protos could clash with. A field or enum value
that does not exist is refused.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

Values = dict[str, Any]


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(
        resources.files("meshwork.xds").joinpath("envoy.binpb").read_bytes()
    )
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def _class(name: str) -> type[message.Message]:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def encode(name: str, values: Values) -> bytes:
    """The message `name`, for example `envoy.config.cluster.v3.Cluster`, with these values.

    The same values give the same bytes in every process.

    Raises:
        google.protobuf.json_format.ParseError: a value does not fit the message.
    """
    made = json_format.ParseDict(values, _class(name)(), descriptor_pool=_pool())
    _settle(made)
    return made.SerializeToString(deterministic=True)


def _settle(made: message.Message) -> None:
    """Encodes each Any within anew: json_format lets the order of maps in it vary by process."""
    if made.DESCRIPTOR.full_name == "google.protobuf.Any":
        inner = _class(made.type_url.rpartition("/")[2]).FromString(made.value)  # type: ignore[attr-defined]
        _settle(inner)
        made.value = inner.SerializeToString(deterministic=True)  # type: ignore[attr-defined]
        return
    for field, value in made.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            for each in value.values() if field.message_type.fields_by_name["value"].message_type else ():
                _settle(each)
        elif isinstance(value, message.Message):
            _settle(value)
        else:
            for each in value:
                _settle(each)


def decode(name: str, body: bytes) -> Values:
    """The values of an encoded message, under the names that `encode` takes."""
    read = _class(name).FromString(body)
    values: Values = json_format.MessageToDict(
        read, preserving_proto_field_name=True, descriptor_pool=_pool()
    )
    return values


def packed(name: str, values: Values | None = None) -> Values:
    """The message `name` as the value of a field of type Any."""
    return {"@type": f"type.googleapis.com/{name}", **(values or {})}

"""`meshwork.benchmark.v1.VectorService`, described in code: it is no part of the contract.

::

    rpc Predict(PredictRequest) returns (PredictResponse)
    rpc PredictMany(stream PredictManyRequest) returns (stream PredictManyResponse)
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from meshwork.type.v1 import served_by_pb2

PACKAGE = "meshwork.benchmark.v1"
SERVICE = f"{PACKAGE}.VectorService"

_Field = descriptor_pb2.FieldDescriptorProto


def _message(
    file: descriptor_pb2.FileDescriptorProto, name: str, *fields: tuple[str, _Field.Type.ValueType, str, bool]
) -> None:
    described = file.message_type.add(name=name)
    for number, (field, kind, message, repeated) in enumerate(fields, 1):
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        described.field.add(
            name=field,
            number=number,
            type=kind,
            type_name=message or None,
            label=label,
        )


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="meshwork/benchmark/v1/vector.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[served_by_pb2.DESCRIPTOR.name],
    )
    text, raw, number, inner = _Field.TYPE_STRING, _Field.TYPE_BYTES, _Field.TYPE_FLOAT, _Field.TYPE_MESSAGE
    served_by = f".{served_by_pb2.ServedBy.DESCRIPTOR.full_name}"
    # What a caller gives its request, to know the answer by: a stream's answers come as they are done.
    identity = ("id", _Field.TYPE_UINT64, "", False)
    # `content` is 64 float32, little-endian: what raw tensors are in the Open Inference Protocol.
    _message(file, "PredictRequest", ("model", text, "", False), ("content", raw, "", False), identity)
    _message(
        file,
        "PredictResponse",
        ("scores", number, "", True),
        ("served_by", inner, served_by, False),
        identity,
    )
    _message(file, "PredictManyRequest", ("requests", inner, f".{PACKAGE}.PredictRequest", True))
    _message(file, "PredictManyResponse", ("responses", inner, f".{PACKAGE}.PredictResponse", True))
    service = file.service.add(name="VectorService")
    service.method.add(
        name="Predict", input_type=f".{PACKAGE}.PredictRequest", output_type=f".{PACKAGE}.PredictResponse"
    )
    service.method.add(
        name="PredictMany",
        input_type=f".{PACKAGE}.PredictManyRequest",
        output_type=f".{PACKAGE}.PredictManyResponse",
        client_streaming=True,
        server_streaming=True,
    )
    return file


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(
        descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.{name}")
    )


descriptor_pool.Default().AddSerializedFile(_describe().SerializeToString())
PredictRequest = _class("PredictRequest")
PredictResponse = _class("PredictResponse")
PredictManyRequest = _class("PredictManyRequest")
PredictManyResponse = _class("PredictManyResponse")

"""Between the protocol's gRPC messages and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.message import Message

from meshwork.errors import InvalidArgument, Unimplemented
from meshwork.inference.v2 import open_inference_pb2 as pb
from meshwork.serving.engines.engine import Array
from meshwork.serving.oip.datatypes import BY_NUMPY, Datatype, Reader, from_raw, from_values, to_raw
from meshwork.serving.oip.signature import Given

_SHARED_MEMORY = "shared_memory_region"
_CLASSIFICATION = "classification"


def given(request: pb.ModelInferRequest) -> Iterator[Given]:
    """The request's input tensors.

    Raises:
        InvalidArgument: values stand in both places, or in neither for some.
        Unimplemented: they lie in shared memory.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidArgument(
            f"should have one entry for each of the {len(request.inputs)} inputs, not {len(raws)}",
            field="raw_input_contents",
        )
    for index, tensor in enumerate(request.inputs):
        field = f"inputs[{index}]"
        if tensor.parameters and _SHARED_MEMORY in tensor.parameters:
            raise no_shared_memory(field)
        if not raws:
            read = _typed(f"{field}.contents", tensor.contents)
        elif tensor.HasField("contents"):
            raise InvalidArgument(
                "should be empty where raw_input_contents has the values", field=f"{field}.contents"
            )
        else:
            read = raw_reader(f"raw_input_contents[{index}]", raws[index])
        yield Given(field, tensor.name, tensor.datatype, tuple(tensor.shape), read)


def raw_reader(field: str, raw: bytes | memoryview) -> Reader:
    """Reads an array from its bytes."""
    return lambda datatype, shape: from_raw(field, datatype, shape, raw)


def _typed(field: str, contents: pb.InferTensorContents) -> Reader:
    def read(datatype: Datatype, shape: tuple[int, ...]) -> Array:
        if not datatype.contents:
            raise InvalidArgument(f"{datatype.name} goes into raw_input_contents", field=field)
        filled = [each.name for each, _ in contents.ListFields()]
        if filled and filled != [datatype.contents]:
            raise InvalidArgument(
                f"should have {datatype.contents} alone for {datatype.name}, not {', '.join(filled)}",
                field=field,
            )
        values = getattr(contents, datatype.contents)
        return from_values(f"{field}.{datatype.contents}", datatype, shape, values)

    return read


def wanted(request: pb.ModelInferRequest) -> list[str]:
    """Names of the outputs that the request asks for; empty for all.

    Raises:
        Unimplemented: it wants one in shared memory, or as a classification.
    """
    names: list[str] = []
    for index, output in enumerate(request.outputs):
        refuse_output(f"outputs[{index}]", output.parameters)
        names.append(output.name)
    return names


def refuse_output(field: str, parameters: Mapping[str, Any]) -> None:
    """Raises Unimplemented for a way of output that is not offered."""
    if _SHARED_MEMORY in parameters:
        raise no_shared_memory(field)
    if _CLASSIFICATION in parameters:
        raise Unimplemented(f"{field}: classification is not offered; take the scores and sort them")


def no_shared_memory(field: str) -> Unimplemented:
    """Says that tensors do not lie in shared memory here."""
    return Unimplemented(f"{field}: shared memory is not offered; send the values in the request")


def respond(
    request: pb.ModelInferRequest, outputs: Mapping[str, Array], parameters: Mapping[str, str | int]
) -> pb.ModelInferResponse:
    """The answer, without the model's name: raw if the request was, or where it can't be else."""
    response = pb.ModelInferResponse(id=request.id)
    set_parameters(response.parameters, parameters)
    datatypes = [datatype_of(array) for array in outputs.values()]
    raw = bool(request.raw_input_contents) or not all(datatype.contents for datatype in datatypes)
    for (name, array), datatype in zip(outputs.items(), datatypes, strict=True):
        tensor = response.outputs.add(name=name, datatype=datatype.name, shape=array.shape)
        if raw:
            response.raw_output_contents.append(to_raw(array))
        else:
            getattr(tensor.contents, datatype.contents).extend(_values(array))
    return response


def _values(array: Array) -> Sequence[Any]:
    if array.dtype != object:
        values: Sequence[Any] = array.ravel().tolist()
        return values
    return [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel()]


@cache
def _datatype(dtype: np.dtype[Any]) -> Datatype:
    return BY_NUMPY["object" if dtype.kind in "SU" else dtype.name]


def datatype_of(array: Array) -> Datatype:
    """The protocol's datatype of an array that a model gave."""
    return _datatype(array.dtype)


def set_parameters(target: Any, parameters: Mapping[str, str | int]) -> None:
    """Fills a map of InferParameter."""
    for name, value in parameters.items():
        if isinstance(value, str):
            target[name].string_param = value
        else:
            target[name].int64_param = value


def parameter(parameters: Mapping[str, pb.InferParameter], name: str) -> Any:
    """A parameter's value, whatever its type; None if it is not set."""
    if name not in parameters:
        return None
    value = parameters[name]
    which = value.WhichOneof("parameter_choice")
    return getattr(value, which) if which else None


def large(message: Message, bound: int = 256 * 1024) -> bool:
    """Whether reading the message's tensors would keep the event loop busy for too long."""
    return message.ByteSize() > bound

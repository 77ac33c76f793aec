"""Between the bodies of `POST .../infer` and arrays: JSON, and JSON with the binary tensor extension.

With the header `Inference-Header-Content-Length: N`, the first N bytes of a body are its JSON; behind
them lie the tensors whose `parameters.binary_data_size` says how long they are, in their order. Each
is as in gRPC's raw contents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshwork.errors import InvalidArgument
from meshwork.serving.engines.engine import Array
from meshwork.serving.oip.datatypes import Reader, from_json, to_json, to_raw
from meshwork.serving.oip.messages import datatype_of, no_shared_memory, raw_reader, refuse_output
from meshwork.serving.oip.signature import Given

LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, its JSON read and checked as far as no model is needed for."""

    id: str
    inputs: list[dict[str, Any]]
    binary: memoryview  # what lies behind the JSON
    timeout: Any
    outputs: dict[str, bool]  # wanted -> whether in binary; empty for all
    binary_outputs: bool  # whether those are in binary of which nothing else is said

    @classmethod
    def read(cls, raw: bytes, json_bytes: str | None) -> Body:
        """Reads a body; `json_bytes` is the header's value.

        Raises:
            InvalidArgument: it is none.
        """
        length = len(raw)
        if json_bytes is not None:
            if not json_bytes.isdecimal() or int(json_bytes) > length:
                raise InvalidArgument(
                    f"should be the length of the JSON in front, 0 to {length}, not {json_bytes!r}",
                    field=LENGTH_HEADER,
                )
            length = int(json_bytes)
        try:
            content = json.loads(raw[:length])
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
            raise InvalidArgument(f"the body is not JSON: {error}", reason="MALFORMED_MESSAGE") from None
        body = _typed(content, dict, "the body")
        parameters = _typed(body.get("parameters", {}), dict, "parameters")
        binary = bool(parameters.get("binary_data_output", False))
        outputs: dict[str, bool] = {}
        for index, entry in enumerate(_typed(body.get("outputs", []), list, "outputs")):
            field = f"outputs[{index}]"
            own = _typed(_typed(entry, dict, field).get("parameters", {}), dict, f"{field}.parameters")
            refuse_output(field, own)
            name = _typed(entry.get("name"), str, f"{field}.name")
            outputs[name] = bool(own.get("binary_data", binary))
        return cls(
            id=_typed(body.get("id", ""), str, "id"),
            inputs=_typed(body.get("inputs"), list, "inputs"),
            binary=memoryview(raw)[length:],
            timeout=parameters.get("timeout"),
            outputs=outputs,
            binary_outputs=binary,
        )

    def given(self) -> Iterator[Given]:
        """The input tensors.

        Raises:
            InvalidArgument: one is not as the protocol says.
        """
        at = 0
        for index, entry in enumerate(self.inputs):
            field = f"inputs[{index}]"
            tensor = _typed(entry, dict, field)
            parameters = _typed(tensor.get("parameters", {}), dict, f"{field}.parameters")
            if "shared_memory_region" in parameters:
                raise no_shared_memory(field)
            shape = _typed(tensor.get("shape"), list, f"{field}.shape")
            if not all(type(axis) is int for axis in shape):
                raise InvalidArgument("should be whole numbers", field=f"{field}.shape")
            size = parameters.get("binary_data_size")
            if size is None:
                read = _json_reader(f"{field}.data", tensor.get("data"))
            else:
                rest = len(self.binary) - at
                if type(size) is not int or not 0 <= size <= rest:
                    raise InvalidArgument(
                        f"should be from 0 to the {rest} bytes that are left, not {size!r}",
                        field=f"{field}.parameters.binary_data_size",
                    )
                read = raw_reader(f"{field}, in binary", self.binary[at : at + size])
                at += size
            name = _typed(tensor.get("name"), str, f"{field}.name")
            datatype = _typed(tensor.get("datatype"), str, f"{field}.datatype")
            yield Given(field, name, datatype, tuple(shape), read)
        if at < len(self.binary):
            raise InvalidArgument(f"{len(self.binary) - at} bytes behind the JSON belong to no input")

    def respond(
        self, model: str, version: str, outputs: Mapping[str, Array], parameters: Mapping[str, str | int]
    ) -> tuple[bytes, int | None]:
        """The answer's body, and the length of its JSON if more lies behind.

        Raises:
            InvalidArgument: an output holds bytes that are no text, and is not wanted in binary.
        """
        described: list[dict[str, Any]] = []
        binary: list[bytes] = []
        for index, (name, array) in enumerate(outputs.items()):
            entry: dict[str, Any] = {
                "name": name,
                "datatype": datatype_of(array).name,
                "shape": list(array.shape),
            }
            if self.outputs.get(name, self.binary_outputs):
                binary.append(to_raw(array))
                entry["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                entry["data"] = to_json(f"outputs[{index}]", array)
            described.append(entry)
        answer = {"model_name": model, "model_version": version, "parameters": dict(parameters)}
        if self.id:
            answer["id"] = self.id
        head = json.dumps({**answer, "outputs": described}, separators=(",", ":")).encode()
        return b"".join((head, *binary)), len(head) if binary else None


def _json_reader(field: str, data: Any) -> Reader:
    return lambda datatype, shape: from_json(field, datatype, shape, data)


_WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def _typed(value: Any, kind: type, field: str) -> Any:
    if not isinstance(value, kind):
        what = "is missing" if value is None else f"should be {_WORDS[kind]}, not {type(value).__name__}"
        raise InvalidArgument(what, field=field)
    return value

"""Writes the SDK's classes from the descriptors: one sync and one asyncio class a service.

A required field becomes a positional argument, an optional one a keyword, a comment in the proto
the docstring. Called by `tools/generate.py`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

SCALARS = {
    Field.TYPE_STRING: ("str", '""'),
    Field.TYPE_BYTES: ("bytes", 'b""'),
    Field.TYPE_BOOL: ("bool", "False"),
    Field.TYPE_INT32: ("int", "0"),
    Field.TYPE_INT64: ("int", "0"),
    Field.TYPE_FLOAT: ("float", "0.0"),
    Field.TYPE_DOUBLE: ("float", "0.0"),
}
STRUCT = ".google.protobuf.Struct"  # which callers give as a mapping
MEDIA = ("Image", "Audio")  # messages that callers give as a path, as bytes or as a data: URI


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One argument of a generated method."""

    name: str
    annotation: str
    default: str  # "" if it must be given
    expression: str  # what the request's field is set to
    doc: str


def snake(name: str) -> str:
    """`TranslateText` as `translate_text`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Writer:
    """Writes the client module of one proto file."""

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self.file = file
        self.messages = {f".{file.package}.{message.name}": message for message in file.message_type}
        self.module = Path(file.name).stem + "_pb2"
        self.comments = {
            tuple(location.path): " ".join(location.leading_comments.split())
            for location in file.source_code_info.location
        }

    def module_text(self) -> str:
        """The whole module."""
        lines = [
            f'"""Typed clients of `{self.file.package}`. Generated from {self.file.name}; do not edit."""',
            "",
            "from __future__ import annotations",
            "",
            *self.imports(),
            "from meshwork import calls",
            f"from {self.file.package} import {self.module} as pb",
        ]
        for index, service in enumerate(self.file.service):
            for flavour in ("Sync", "Async"):
                lines += ["", "", *self.class_lines(index, service, flavour)]
        return "\n".join(lines) + "\n"

    def imports(self) -> Iterator[str]:
        """What a module needs beside the SDK."""
        structs = any(field.type_name == STRUCT for each in self.file.message_type for field in each.field)
        mapping = "Mapping, " if structs else ""
        yield f"from collections.abc import AsyncIterator, Iterator, {mapping}Sequence"
        if structs:
            yield from ("from typing import Any", "", "from google.protobuf import struct_pb2")
        yield ""

    def class_lines(
        self, index: int, service: descriptor_pb2.ServiceDescriptorProto, flavour: str
    ) -> Iterator[str]:
        """A client class of one service."""
        name = service.name.removesuffix("Service")
        yield f"class {'Async' if flavour == 'Async' else ''}{name}Client(calls.{flavour}Service):"
        yield f'    """{self.comments[(6, index)]}"""'
        yield ""
        yield f'    FULL_NAME = "{self.file.package}.{service.name}"'
        for number, method in enumerate(service.method):
            yield ""
            yield from self.method_lines(method, self.comments[(6, index, 2, number)], flavour)

    def method_lines(
        self, method: descriptor_pb2.MethodDescriptorProto, doc: str, flavour: str
    ) -> Iterator[str]:
        """One method of a client class."""
        request = self.messages[method.input_type]
        response = self.messages[method.output_type]
        number = list(self.messages).index(method.input_type)
        is_async = flavour == "Async"
        paged = any(field.name == "next_page_token" for field in response.field)
        parameters = list(self.parameters(request, number, paged))
        given = [parameter for parameter in parameters if not parameter.default]
        optional = [parameter for parameter in parameters if parameter.default]
        result = f"pb.{response.name}"
        if paged:
            entries = response.field[0]
            result = f"list[pb.{entries.type_name.rpartition('.')[2]}]"
        if method.server_streaming:
            result = f"{'AsyncIterator' if is_async else 'Iterator'}[{result}]"
        is_coroutine = is_async and not method.server_streaming
        yield f"    {'async ' if is_coroutine else ''}def {snake(method.name)}("
        yield "        self,"
        for parameter in given:
            yield f"        {parameter.name}: {parameter.annotation},"
        yield "        *,"
        for parameter in optional:
            yield f"        {parameter.name}: {parameter.annotation} = {parameter.default},"
        yield "        timeout_s: float | None = None,"
        yield "        metadata: calls.Metadata = (),"
        yield f"    ) -> {result}:"
        yield from self.docstring(doc, [*given, *optional], paged, method)
        yield f"        request = pb.{request.name}("
        for parameter in [*given, *optional]:
            expression = parameter.expression
            yield f"            {parameter.name}={expression}{'' if '#' in expression else ','}"
        yield "        )"
        call = f'"{method.name}", request, pb.{response.name}, timeout_s, metadata'
        wait = "await " if is_coroutine else ""
        if paged:
            yield f"        pages = {wait}self._pages({call})"
            yield f"        return [entry for page in pages for entry in page.{response.field[0].name}]"
        elif method.server_streaming:
            yield f"        return self._stream({call})"
        else:
            yield f"        return {wait}self._unary({call})"

    def docstring(
        self,
        doc: str,
        parameters: list[Parameter],
        paged: bool,
        method: descriptor_pb2.MethodDescriptorProto,
    ) -> Iterator[str]:
        """The docstring of one method, from the proto's comments."""
        first, _, rest = doc.partition(". ")
        yield f'        """{first.rstrip(".")}.'
        for paragraph in ([rest] if rest else []) + (["All pages are fetched."] if paged else []):
            yield ""
            yield from textwrap.wrap(paragraph, 96, initial_indent=" " * 8, subsequent_indent=" " * 8)
        yield ""
        yield "        Args:"
        timeout = (
            "seconds until the stream ends; None for no end."
            if method.server_streaming
            else "seconds until the call fails; None for the client's."
        )
        documented = [(parameter.name, parameter.doc) for parameter in parameters]
        sent = "pairs of a name and a value, to send beside the request."
        for name, text in [*documented, ("timeout_s", timeout), ("metadata", sent)]:
            yield from textwrap.wrap(
                f"{name}: {text}", 96, initial_indent=" " * 12, subsequent_indent=" " * 16
            )
        yield ""
        yield "        Raises:"
        yield "            MeshworkError: the call failed; its class says how (see meshwork.errors)."
        yield '        """'

    def parameters(
        self, request: descriptor_pb2.DescriptorProto, number: int, paged: bool
    ) -> Iterator[Parameter]:
        """The arguments for the fields of a request."""
        for index, field in enumerate(request.field):
            if paged and field.name in ("page_size", "page_token"):
                continue
            behaviours = field.options.Extensions[field_behavior_pb2.field_behavior]
            required = field_behavior_pb2.REQUIRED in behaviours
            annotation, default, expression = self.python_type(field)
            yield Parameter(
                name=field.name,
                annotation=annotation,
                default="" if required else default,
                expression=expression,
                doc=self.comments[(4, number, 2, index)],
            )

    def python_type(self, field: Field) -> tuple[str, str, str]:
        """The annotation, the default and the conversion of a field."""
        name = field.name
        short = field.type_name.rpartition(".")[2]
        if field.label == Field.LABEL_REPEATED:
            if field.type == Field.TYPE_STRING:
                return "str | Sequence[str]", "()", f"calls.texts({name})"
            if field.type == Field.TYPE_MESSAGE and short in MEDIA:
                one = f"calls.Media | pb.{short}"
                return f"{one} | Sequence[{one}]", "()", f"calls.many_media(pb.{short}, {name})"
            inner = f"pb.{short}" if field.type == Field.TYPE_MESSAGE else SCALARS[field.type][0]
            return f"Sequence[{inner}]", "()", name
        if field.type == Field.TYPE_MESSAGE and short in MEDIA:
            return f"calls.Media | pb.{short}", "None", f"calls.media(pb.{short}, {name})"
        if field.type_name == STRUCT:
            return "Mapping[str, Any] | struct_pb2.Struct", "", f"calls.struct({name})"
        if field.type == Field.TYPE_MESSAGE:
            return f"pb.{short} | None", "None", name
        if field.type == Field.TYPE_ENUM:
            return f"pb.{short}.ValueType", f"pb.{snake(short).upper()}_UNSPECIFIED", name
        annotation, default = SCALARS[field.type]
        if name == "seed":
            return f"{annotation} | None", "None", f"calls.{name}({name}, temperature)"
        if field.proto3_optional:
            return f"{annotation} | None", "None", name
        if field.HasField("oneof_index"):
            # Unset and empty differ in a oneof; protobuf takes None for unset, its stubs do not.
            return f"{annotation} | None", "None", f"{name},  # type: ignore[arg-type]"
        if name == "request_id":
            return annotation, default, f"{name} or calls.new_request_id()"
        return annotation, default, name


def write_clients(descriptors: Path, out: Path) -> None:
    """Writes `*_client.py` beside the `_pb2` modules of every file that has a service."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    for file in files.file:
        if file.service and file.package.startswith("meshwork."):
            path = out / Path(file.name).with_name(f"{Path(file.name).stem}_client.py")
            path.write_text(Writer(file).module_text())

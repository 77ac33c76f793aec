"""`meshwork call SERVICE METHOD`: a command for each rpc, made from the contract itself.

A required field is an argument, an optional one an option, the proto's comment its help; the one list
of texts that may be left out is an argument too, behind the others. Files are given by path, texts as
they are. A method may be shortened as far as it stays unique.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import rich_click as click
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from meshwork import client
from meshwork.calls import many_media, media
from meshwork.cli import entries, render, tracing
from meshwork.cli.console import address_option, as_data, gateway_address, print_json, reports_errors
from meshwork.contract import SERVICES, descriptor

ALIASES = {
    "target_language": "to",
    "source_language": "from",
    "speaking_rate": "rate",
    "language_code": "language",
}
ARGUMENTS = {"meshwork.nlp.v1.GenerateRequest.prompt"}  # given without a flag, though optional
STRUCT = "google.protobuf.Struct"  # given as words: see meshwork.cli.entries
CONTENT = "content"  # the field that makes a message one which is read from a file


@functools.cache
def _comments() -> dict[str, str]:
    """The comment of each rpc and field, by full name."""
    raw = resources.files("meshwork").joinpath("descriptors.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
        if not file.package.startswith("meshwork."):
            continue
        for location in file.source_code_info.location:
            path, text = tuple(location.path), " ".join(location.leading_comments.split())
            match path:
                case (4, message, 2, field):
                    owner = file.message_type[message]
                    found[f"{file.package}.{owner.name}.{owner.field[field].name}"] = text
                case (6, service):
                    found[f"{file.package}.{file.service[service].name}"] = text
                case (6, service, 2, method):
                    own = file.service[service]
                    found[f"{file.package}.{own.name}.{own.method[method].name}"] = text
                case (5, number):
                    found[f"{file.package}.{file.enum_type[number].name}"] = text
    return found


def command_name(method: str) -> str:
    """`TranslateText` as `translate-text`."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in method).lstrip("-")


def _required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _only_list(field: FieldDescriptor) -> bool:
    """Whether `field` is the one repeated field of its request, and a list of texts."""
    request = field.containing_type
    repeated = [each for each in request.fields if each.is_repeated] if request else []
    return repeated == [field] and field.cpp_type == FieldDescriptor.CPPTYPE_STRING


def _is_media(message: Descriptor | None) -> bool:
    return message is not None and CONTENT in message.fields_by_name and "uri" in message.fields_by_name


def _read(value: str) -> bytes | str:
    return sys.stdin.buffer.read() if value == "-" else value


class _Field:
    """One field of a request as arguments and options, and back."""

    def __init__(self, field: FieldDescriptor) -> None:
        self.field = field
        self.help = _comments().get(field.full_name, "")

    def parameters(self) -> Iterator[click.Parameter]:
        """The command line's side."""
        field, name = self.field, self.field.name
        message = field.message_type
        if message is not None and _is_media(message):
            yield self._parameter(name, f"{name.upper()}_FILE", str, many=field.is_repeated)
            for extra in message.fields:
                if extra.containing_oneof is None:
                    yield self._option(extra)
        elif message is not None and message.full_name == STRUCT:
            metavar = f"[{entries.METAVAR}]..."
            yield click.Argument([name], nargs=-1, type=entries.Entries(), metavar=metavar)
        elif message is not None and field.is_repeated and not _required(field):
            names = ": ".join(inner.name.upper() for inner in message.fields)
            yield self._option(field, type=_Pair(message), metavar=f"'{names}'")
        elif message is not None and field.is_repeated:
            # A list of (user, item) is given as one USER and many ITEMs.
            required = [inner for inner in message.fields if _required(inner)]
            for inner in required:
                last = inner is required[-1]
                yield click.Argument(
                    [inner.name],
                    nargs=-1 if last else 1,
                    required=True,
                    metavar=inner.name.upper() + ("..." if last else ""),
                )
        elif message is not None:
            for inner in message.fields:
                alone = len(message.fields) == 1
                yield self._option(inner, name=name if alone else inner.name)
        else:
            yield self._parameter(name, name.upper(), _type(field), many=field.is_repeated)

    def _parameter(self, name: str, metavar: str, kind: Any, *, many: bool) -> click.Parameter:
        if self.field.full_name in ARGUMENTS:
            return click.Argument([name], required=False, type=kind, metavar=f"[{metavar}]")
        if _required(self.field) and name not in ALIASES:
            return click.Argument(
                [name],
                nargs=-1 if many else 1,
                required=True,
                type=kind,
                metavar=f"{metavar}{'...' if many else ''}",
            )
        if many and _only_list(self.field):
            return click.Argument([name], nargs=-1, required=False, metavar=f"[{metavar}]...")
        return self._option(self.field, required=_required(self.field))

    def _option(
        self, field: FieldDescriptor, *, name: str = "", required: bool = False, **more: Any
    ) -> click.Option:
        name = name or field.name
        flag = "--" + ALIASES.get(name, name).replace("_", "-")
        # One that is given several times reads better in the singular: --text one --text two.
        flags = [flag.removesuffix("s"), flag] if field.is_repeated else [flag]
        return click.Option(
            [*dict.fromkeys(flags), name],
            help=_comments().get(field.full_name, ""),
            required=required,
            multiple=field.is_repeated,
            is_flag=field.type == FieldDescriptor.TYPE_BOOL,
            **{"type": _type(field), **more},
        )

    def value(self, given: dict[str, Any]) -> Any:
        """The field's value, None if nothing was given."""
        field, message = self.field, self.field.message_type
        if message is None:
            return _scalar(field, given[field.name])
        if message.full_name == STRUCT:
            return {name: entry for word in given[field.name] for name, entry in word.items()}
        kind = message_factory.GetMessageClass(message)
        if _is_media(message):
            if field.is_repeated:
                return many_media(kind, [_read(entry) for entry in given[field.name]])
            if given[field.name] is None:
                return None
            made = media(kind, _read(given[field.name]))
            assert made is not None
            _fill(made, [inner for inner in message.fields if inner.containing_oneof is None], given)
            return made
        if field.is_repeated and not _required(field):
            return list(given[field.name]) or None
        if field.is_repeated:
            required = [inner.name for inner in message.fields if _required(inner)]
            once = {name: given[name] for name in required[:-1]}
            return [kind(**once, **{required[-1]: entry}) for entry in given[required[-1]]]
        made = kind()
        if len(message.fields) == 1:
            given = {**given, message.fields[0].name: given[field.name]}
        _fill(made, message.fields, given)
        return made if made.ByteSize() else None


class _Pair(click.ParamType[Any]):
    """A message of two texts, given as one: `user: What is rain?`."""

    name = "pair"

    def __init__(self, message: Descriptor) -> None:
        self._message = message

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The message."""
        first, colon, second = value.partition(":")
        names = [field.name for field in self._message.fields]
        if not colon:
            self.fail(f"{value!r} should be {names[0].upper()}: {names[1].upper()}", param, ctx)
        kind = message_factory.GetMessageClass(self._message)
        return kind(**dict(zip(names, (first.strip(), second.strip()), strict=True)))


def _fill(message: Message, fields: Sequence[FieldDescriptor], given: dict[str, Any]) -> None:
    for field in fields:
        value = _scalar(field, given[field.name])
        if value and field.is_repeated:
            getattr(message, field.name).extend(value)
        elif value:
            setattr(message, field.name, value)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if value is None or value == ():
        return None
    if field.enum_type is not None:
        return field.enum_type.values_by_name[_enum_prefix(field) + value.upper()].number
    return list(value) if field.is_repeated else value


def _enum_prefix(field: FieldDescriptor) -> str:
    assert field.enum_type is not None
    return str(field.enum_type.values[0].name).removesuffix("UNSPECIFIED")


def _type(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        prefix = _enum_prefix(field)
        names = [value.name.removeprefix(prefix).lower() for value in field.enum_type.values[1:]]
        return click.Choice(names, case_sensitive=False)
    return {
        FieldDescriptor.CPPTYPE_INT32: int,
        FieldDescriptor.CPPTYPE_INT64: int,
        FieldDescriptor.CPPTYPE_FLOAT: float,
        FieldDescriptor.CPPTYPE_DOUBLE: float,
        FieldDescriptor.CPPTYPE_BOOL: bool,
    }.get(field.cpp_type, str)


def _command(service: str, method: MethodDescriptor) -> click.Command:
    paged = "page_token" in method.input_type.fields_by_name
    fields = [
        _Field(field) for field in method.input_type.fields if not (paged and field.name.startswith("page_"))
    ]
    answers_bytes = [
        field.name for field in method.output_type.fields if field.type == FieldDescriptor.TYPE_BYTES
    ]

    @reports_errors
    def run(
        as_json: bool,
        address: str,
        timeout: float | None,
        call_priority: client.Priority,
        traced: bool,
        output: Path | None = None,
        **given: Any,
    ) -> None:
        values = {field.field.name: field.value(given) for field in fields}
        arguments = {name: value for name, value in values.items() if value is not None}
        snake = command_name(method.name).replace("-", "_")
        with (
            tracing.told(traced, address),
            client.connect(gateway_address(address), priority=call_priority) as mesh,
        ):
            answer = getattr(getattr(mesh, service), snake)(**arguments, timeout_s=timeout)
            if method.server_streaming:
                _show_stream(answer, as_json)
                return
        if answers_bytes:
            render.save(answer, answers_bytes[0], output)
        _show(answer, as_json)

    parameters = [parameter for field in fields for parameter in field.parameters()]
    if answers_bytes:
        parameters.append(
            click.Option(
                ["-o", "--output"],
                type=click.Path(path_type=Path),
                help="File to write; - for standard output.",
            )
        )
    parameters.append(
        click.Option(
            ["--timeout"],
            type=float,
            default=None if method.server_streaming else client.DEFAULT_TIMEOUT_S,
            show_default=not method.server_streaming,
            help="Seconds until the stream ends; without it, never."
            if method.server_streaming
            else "Seconds that the call may take.",
        )
    )
    parameters.append(
        click.Option(
            ["--priority", "call_priority"],
            type=click.Choice(("interactive", "default", "batch")),
            default="default",
            help="How soon a busy replica takes it: before default calls, among them, or after.",
        )
    )
    parameters.append(
        click.Option(
            ["--trace", "traced"], is_flag=True, help="Say which trace shows this call, and how to see it."
        )
    )
    command = click.RichCommand(
        name=command_name(method.name), callback=run, params=parameters, help=_help(method, fields)
    )
    for option in (
        address_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    ):
        option(command)
    return command


def _help(method: MethodDescriptor, fields: Sequence[_Field]) -> str:
    """The rpc's comment, and a line for each argument, which click itself does not describe."""
    lines = [_comments().get(method.full_name, "")]
    for field in fields:
        arguments = [each for each in field.parameters() if isinstance(each, click.Argument)]
        if arguments:
            names = " ".join(str(each.metavar) for each in arguments)
            lines.append(f"{names}: {field.help}")
    return "\n\n".join(lines)


def _show(answer: Any, as_json: bool) -> None:
    if not as_json:
        render.show(answer)
    elif isinstance(answer, list):
        print_json([as_data(entry) for entry in answer])
    else:
        print_json(as_data(answer))


def _show_stream(answers: Any, as_json: bool) -> None:
    """Prints each answer as it comes; Ctrl-C ends the call, and so its work."""
    with contextlib.closing(answers):
        try:
            for answer in answers:
                if render.is_piece(answer) and not as_json:
                    render.show_piece(answer)
                else:
                    _show(answer, as_json)
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None


class _Methods(click.RichGroup):
    """The methods of one service; a unique beginning of a name is enough."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        matches = [name for name in self.list_commands(ctx) if name.startswith(cmd_name)]
        return found or (super().get_command(ctx, matches[0]) if len(matches) == 1 else None)


@click.group()
def call() -> None:
    """Call a method of a service: `meshwork call vision classify samples/seven.png`.

    Each service lists its methods by --help, each method its arguments.
    """


for _name in (*SERVICES, "router"):
    _service = descriptor(_name)
    _group = _Methods(name=_name, help=_comments().get(_service.full_name, ""))
    for _method in _service.methods:
        _group.add_command(_command(_name, _method))
    call.add_command(_group)

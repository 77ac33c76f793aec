"""Answers for people: any response message as text and tables, complete and readable."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from meshwork.cli.console import err, out

_CONTROLS = {code: None for code in (*range(32), 127) if chr(code) not in "\n\t"}
_SHOWN_NUMBERS = 6  # of a vector; --json prints all
_SHOWN_TEXT = 500  # characters of a text within a mapping
_BOX = ["left", "top", "right", "bottom"]


def save(answer: Any, field: str, path: Path | None) -> None:
    """Writes a bytes field to a file (standard output for `-`) and takes it out of the answer."""
    content: bytes = getattr(answer, field)
    if path is None:
        err.print(f"{field}: {len(content)} bytes; --output FILE keeps them", style="dim")
    elif str(path) == "-":
        sys.stdout.buffer.write(content)
    else:
        path.write_bytes(content)
        err.print(f"wrote {path}, {len(content)} bytes")
    answer.ClearField(field)


def show(answer: Message | list[Message]) -> None:
    """Prints an answer: its single values, then a table for each list, then who answered."""
    if isinstance(answer, list):
        _table(answer)
        return
    lists = []
    fields: list[Any] = list(answer.DESCRIPTOR.fields)
    for field in fields:
        value = getattr(answer, field.name)
        if field.name == "served_by":
            continue
        if field.is_repeated:
            lists.append((field, list(value)))
        elif field.message_type is None or answer.HasField(field.name):
            text = _text(field, value)
            if text:
                out.print(f"[bold]{field.name.replace('_', ' ')}[/]  {escape(text)}")
    tables = sum(field.message_type is not None and bool(entries) for field, entries in lists)
    for field, entries in lists:
        if field.message_type is not None and entries:
            if tables > 1:
                out.print(f"[bold]{field.name.replace('_', ' ')}[/]")
            _table(entries)
        elif entries:
            out.print(f"[bold]{field.name.replace('_', ' ')}[/]  {escape(', '.join(map(str, entries)))}")
        else:
            out.print(f"no {field.name.replace('_', ' ')}", style="dim")
    if "served_by" in answer.DESCRIPTOR.fields_by_name:
        _served_by(getattr(answer, "served_by"))  # noqa: B009 - not every message has it


def is_piece(answer: Message) -> bool:
    """Whether `answer` is a piece of a text that comes in pieces."""
    return {"text", "finish_reason"} <= set(answer.DESCRIPTOR.fields_by_name)


def show_piece(piece: Any) -> None:
    """Prints a piece of a text behind the one before; behind the last, on standard error, what it took.

    What would steer a terminal is left out.
    """
    sys.stdout.write(piece.text.translate(_CONTROLS))
    if piece.finish_reason:
        sys.stdout.write("\n")
    sys.stdout.flush()
    if piece.finish_reason:
        facts = [
            f"{field.name.replace('_', ' ')} {_text(field, value)}"
            for field, value in piece.ListFields()
            if field.name not in ("text", "served_by")
        ]
        err.print(", ".join(facts), style="dim", markup=False)
        _served_by(piece.served_by, err)


def _table(entries: list[Any]) -> None:
    if not entries:
        out.print("nothing", style="dim")
        return
    fields = list(entries[0].DESCRIPTOR.fields)
    lists = [field for field in fields if field.is_repeated and field.message_type is not None]
    if lists == fields:
        _tables_within(entries, lists)
        return
    _rows(entries, [""] * len(entries))


def _tables_within(entries: list[Any], lists: list[FieldDescriptor]) -> None:
    """Entries that hold nothing but lists: a table for each list, its rows numbered by their entry."""
    for field in lists:
        numbered = [
            (str(index), row) for index, entry in enumerate(entries) for row in getattr(entry, field.name)
        ]
        if not numbered:
            out.print(f"no {field.name.replace('_', ' ')}", style="dim")
            continue
        _rows([row for _, row in numbered], [number if len(entries) > 1 else "" for number, _ in numbered])


def _rows(entries: list[Any], numbers: list[str]) -> None:
    """A table of entries; numbers stand in a first column, if there are any."""
    used = [
        field
        for field in entries[0].DESCRIPTOR.fields
        if any(field in {known for known, _ in entry.ListFields()} for entry in entries)
    ]
    heads = [field.name.replace("_", " ").upper() for field in used]
    table = Table(*(["#"] if any(numbers) else []), *heads, box=None, pad_edge=False)
    for number, entry in zip(numbers, entries, strict=True):
        cells = [escape(_text(field, getattr(entry, field.name))) for field in used]
        table.add_row(*([number] if any(numbers) else []), *cells)
    out.print(table)


def _text(field: FieldDescriptor, value: Any) -> str:
    if field.is_repeated:
        parts = [_one(field, entry) for entry in value]
        if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            shown = ", ".join(parts[:_SHOWN_NUMBERS])
            more = ", ..." if len(parts) > _SHOWN_NUMBERS else ""
            return f"[{shown}{more}] ({len(parts)} values)"
        return ", ".join(parts)
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        values = field.enum_type.values_by_number
        prefix = str(values[0].name).removesuffix("UNSPECIFIED")
        return str(values[value].name).removeprefix(prefix).lower() if value in values else str(value)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return f"{value:.4f}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
        return f"{len(value)} bytes" if value else ""
    if field.message_type is None:
        return str(value)
    if [inner.name for inner in field.message_type.fields] == _BOX:
        return f"{value.left:.6g}, {value.top:.6g} to {value.right:.6g}, {value.bottom:.6g}"
    name = field.message_type.full_name
    if name == "google.protobuf.Struct":
        return json.dumps(_shortened(json_format.MessageToDict(value)), ensure_ascii=False, indent=2)
    if name == "google.protobuf.Duration":
        return f"{value.ToTimedelta() / datetime.timedelta(seconds=1):.2f} s"
    if name == "google.protobuf.Timestamp":
        return str(value.ToDatetime(datetime.UTC).isoformat(timespec="seconds")) if value.ByteSize() else ""
    return "  ".join(
        f"{inner.name}={_text(inner, content)}"
        for inner, content in value.ListFields()
        if not (inner.is_repeated and inner.message_type is not None)
    )


def _shortened(value: Any) -> Any:
    """JSON's values with long texts cut: files as base64, which --json prints whole."""
    if isinstance(value, dict):
        return {name: _shortened(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    if isinstance(value, str) and len(value) > _SHOWN_TEXT:
        return f"{value[:20]}... ({len(value)} characters)"
    return round(value, 4) if isinstance(value, float) else value


def _served_by(served: Any, console: Console = out) -> None:
    console.print(
        f"{served.model}@{served.version} on {served.replica}, "
        f"queue {served.queue_time.ToNanoseconds() / 1e6:.1f} ms, "
        f"compute {served.compute_time.ToNanoseconds() / 1e6:.1f} ms, batch {served.batch_size}",
        style="dim",
        markup=False,
    )

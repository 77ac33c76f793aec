"""Checks of request fields: each returns the value to use, or raises InvalidArgument naming the field."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TypeVar

from meshwork.errors import InvalidArgument

T = TypeVar("T")


def number(field: str, value: float, *, default: float, low: float, high: float) -> float:
    """`value`, or `default` if it is 0; from `low` to `high`, both included."""
    if value == 0:
        return default
    if not low <= value <= high:  # NaN fails too
        raise InvalidArgument(f"should be from {low:g} to {high:g}, not {value:g}", field=field)
    return value


def count(field: str, value: int, *, default: int, high: int) -> int:
    """`value`, or `default` if it is 0; from 1 to `high`."""
    return int(number(field, value, default=default, low=1, high=high))


def text(field: str, value: str, *, longest: int = 1_000_000) -> str:
    """A text that says something, of at most `longest` characters."""
    if not value.strip():
        raise InvalidArgument("should not be empty", field=field)
    if len(value) > longest:
        raise InvalidArgument(f"should be at most {longest} characters, not {len(value)}", field=field)
    return value


def texts(
    field: str, values: Sequence[str], *, fewest: int = 1, most: int, longest: int = 1_000_000
) -> list[str]:
    """From `fewest` to `most` texts, none of them empty."""
    if not fewest <= len(values) <= most:
        raise InvalidArgument(f"should have {fewest} to {most} entries, not {len(values)}", field=field)
    return [text(f"{field}[{index}]", value, longest=longest) for index, value in enumerate(values)]


def labels(field: str, values: Sequence[str], *, most: int, longest: int) -> list[str]:
    """From 2 to `most` texts that differ."""
    checked = texts(field, values, fewest=2, most=most, longest=longest)
    first: dict[str, int] = {}
    for index, label in enumerate(checked):
        if first.setdefault(label, index) != index:
            raise InvalidArgument(
                f"is the same as {field}[{first[label]}]; {field} should differ", field=f"{field}[{index}]"
            )
    return checked


def media(field: str, source: str | None, content: bytes, uri: str) -> bytes:
    """The bytes of a `oneof source {content, uri}`; `source` is what WhichOneof says."""
    if source is None:
        raise InvalidArgument("set content (the file's bytes) or uri (a data: URI)", field=field)
    if source == "content":
        if not content:
            raise InvalidArgument("should hold the file's bytes, and is empty", field=f"{field}.content")
        return content
    head, comma, body = uri.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma:
        raise InvalidArgument("should be a data:TYPE;base64,DATA URI", field=f"{field}.uri")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise InvalidArgument(f"is not base64 after the comma: {error}", field=f"{field}.uri") from error


def page(entries: Sequence[T], page_size: int, page_token: str) -> tuple[list[T], str]:
    """A page of `entries` and the token of the next page, "" on the last one."""
    size = count("page_size", page_size, default=100, high=1000)
    start = 0
    if page_token:
        try:
            start = int(base64.urlsafe_b64decode(page_token.encode()).decode())
        except ValueError:
            start = -1
        if not 0 <= start <= len(entries):
            raise InvalidArgument("is not a next_page_token of this method", field="page_token")
    end = start + size
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(entries) else ""
    return list(entries[start:end]), token

"""Reads as much of protobuf's wire format as the Open Inference Protocol needs here, without generated code.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

_LENGTH_DELIMITED = 2
_SIZES = {1: 8, 5: 4}  # of the fixed wire types


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and values of a message's length-delimited fields; others are passed over."""
    at = 0
    while at < len(message):
        key, at = _read(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _read(message, at)
        elif kind == _LENGTH_DELIMITED:
            size, at = _read(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        else:
            at += _SIZES[kind]


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at

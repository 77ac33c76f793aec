"""Protobuf's wire format, for messages that are put together from parts which were encoded before.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def nested(number: int, body: bytes) -> bytes:
    """`body`, of a message, a text, bytes or packed numbers, as the field `number` of a message."""
    size = len(body)
    if number < 16 and size < 0x80:  # most are: two bytes in place of two numbers
        return bytes((number << 3 | _LENGTH_DELIMITED, size)) + body
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(size) + body


def varint(value: int) -> bytes:
    """A number, not negative, in groups of seven bits, lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

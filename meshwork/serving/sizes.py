"""How many bytes of memory plain data takes, so that a queue can be bounded by them."""

from __future__ import annotations

from typing import Any

_SMALL = 64  # bytes that any object is taken to need


def nbytes(value: Any) -> int:
    """Bytes of texts, bytes, arrays, and of sequences, mappings and dataclasses that hold them."""
    held = getattr(value, "nbytes", None)  # arrays, tensors, memoryviews
    if isinstance(held, int):
        return held + _SMALL
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) + _SMALL
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        if value and isinstance(value[0], (int, float)):
            return _SMALL + 8 * len(value)
        inner = value
    else:
        inner = [getattr(value, name) for name in getattr(value, "__dataclass_fields__", ())]
    total = _SMALL
    for each in inner:
        total += nbytes(each)
    return total

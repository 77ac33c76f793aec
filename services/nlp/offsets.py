"""Offsets in a text as the caller's language counts them, from code points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from meshwork.nlp.v1 import nlp_pb2 as pb

_LAST_OF = (0x7F, 0x7FF, 0xFFFF)  # the last code points that take 1, 2 and 3 bytes of UTF-8


def counted(text: str, encoding: pb.OffsetEncoding.ValueType) -> Callable[[int], int]:
    """From an offset in code points to one in `encoding`; unspecified and unknown ones are code points."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if encoding == pb.OFFSET_ENCODING_UTF8_BYTES:
        widths: NDArray[np.int64] = 1 + np.searchsorted(_LAST_OF, points, side="left")
    elif encoding == pb.OFFSET_ENCODING_UTF16_UNITS:
        widths = 1 + (points > _LAST_OF[2]).astype(np.int64)
    else:
        return lambda offset: offset
    before = np.concatenate([[0], np.cumsum(widths)])
    return lambda offset: int(before[offset])

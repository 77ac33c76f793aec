"""The protocol's datatypes, and arrays of each as raw bytes, as typed contents and as JSON.

========  ==============  ========================================================
datatype  numpy           on the wire
========  ==============  ========================================================
BOOL      bool            a byte each
INT*      int8 .. int64   little-endian
UINT*     uint8 ..        little-endian
FP*       float16 ..      little-endian
BF16      bfloat16        little-endian; numpy knows it once ml_dtypes is imported
BYTES     object          each element's bytes after their length (uint32)
========  ==============  ========================================================

FP16 and BF16 have no typed contents: the protocol carries them raw only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from meshwork.errors import InvalidArgument
from meshwork.serving.engines.engine import Array

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Datatype:
    """A datatype of the protocol."""

    name: str  # for example "FP32"
    numpy: str  # numpy's name, for example "float32"
    size: int  # bytes of an element; 0 if they differ
    contents: str  # field of InferTensorContents; "" if it has none
    number: int  # Triton's, in model configurations

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's."""
        return _dtype(self.numpy)


_ALL = (
    Datatype("BOOL", "bool", 1, "bool_contents", 1),
    Datatype("UINT8", "uint8", 1, "uint_contents", 2),
    Datatype("UINT16", "uint16", 2, "uint_contents", 3),
    Datatype("UINT32", "uint32", 4, "uint_contents", 4),
    Datatype("UINT64", "uint64", 8, "uint64_contents", 5),
    Datatype("INT8", "int8", 1, "int_contents", 6),
    Datatype("INT16", "int16", 2, "int_contents", 7),
    Datatype("INT32", "int32", 4, "int_contents", 8),
    Datatype("INT64", "int64", 8, "int64_contents", 9),
    Datatype("FP16", "float16", 2, "", 10),
    Datatype("FP32", "float32", 4, "fp32_contents", 11),
    Datatype("FP64", "float64", 8, "fp64_contents", 12),
    Datatype("BYTES", "object", 0, "bytes_contents", 13),
    Datatype("BF16", "bfloat16", 2, "", 14),
)
DATATYPES = {datatype.name: datatype for datatype in _ALL}
BY_NUMPY = {datatype.numpy: datatype for datatype in _ALL}


@cache
def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def from_raw(field: str, datatype: Datatype, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """The array that `raw` holds, without a copy where that can be (it is then read-only).

    Raises:
        InvalidArgument: it does not hold as much as the shape says.
    """
    if not datatype.size:
        return _shaped(_split(field, raw), shape, field)
    wanted = prod(shape) * datatype.size
    if len(raw) != wanted:
        raise InvalidArgument(
            f"should hold {wanted} bytes for {datatype.name} of shape {list(shape)}, not {len(raw)}",
            field=field,
        )
    if datatype.name == "BOOL":  # any byte but 0 is true; numpy would keep others as they are
        array: Array = np.frombuffer(raw, np.uint8) != 0
    else:
        array = np.frombuffer(raw, datatype.dtype)
    return array.reshape(shape)


def to_raw(array: Array) -> bytes:
    """What `from_raw` reads."""
    if array.dtype != object:
        return array.tobytes()
    elements = [_bytes(element) for element in array.ravel()]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(each)), each) for each in elements))


def from_values(field: str, datatype: Datatype, shape: tuple[int, ...], values: Sequence[Any]) -> Array:
    """The array of `values`, in row-major order.

    Raises:
        InvalidArgument: there are more or fewer than the shape says, or one is not of the datatype.
    """
    if datatype.name == "BYTES":
        return _shaped([_bytes(value) for value in values], shape, field)
    if len(values) != prod(shape):
        raise _miscounted(field, shape, len(values))
    try:
        with np.errstate(over="ignore"):  # a float beyond the datatype's range is infinite
            return np.array(values, datatype.dtype).reshape(shape)
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidArgument(f"should be {datatype.name}: {error}", field=field) from None


_JSON_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset((bool,)), "true or false"),
    "i": (frozenset((int,)), "whole numbers"),
    "u": (frozenset((int,)), "whole numbers of 0 or more"),
    "f": (frozenset((int, float)), "numbers"),
    "V": (frozenset((int, float)), "numbers"),  # bfloat16 is of a kind of its own
    "O": (frozenset((str,)), "texts"),
}


def from_json(field: str, datatype: Datatype, shape: tuple[int, ...], data: Any) -> Array:
    """The array that `data` of a JSON body is: nested lists, or one flat list in row-major order.

    Raises:
        InvalidArgument: it is no list, or not as the shape and the datatype say.
    """
    if not isinstance(data, list):
        raise InvalidArgument("should be a list of the tensor's values", field=field)
    flat = data
    for _ in range(len(shape) - 1):
        if not flat or not isinstance(flat[0], list):
            break
        if not all(isinstance(entry, list) for entry in flat):
            raise InvalidArgument("mixes lists and values", field=field)
        flat = list(chain.from_iterable(flat))
    types, words = _JSON_TYPES[datatype.dtype.kind]
    if not {type(value) for value in flat} <= types:
        raise InvalidArgument(f"should hold {words}, for {datatype.name}", field=field)
    return from_values(field, datatype, shape, flat)


def to_json(field: str, array: Array) -> list[Any]:
    """The array's values as a flat list for a JSON body.

    Raises:
        InvalidArgument: it holds bytes that are no text; the caller can have them in binary.
    """
    if array.dtype == object:
        try:
            return [_bytes(element).decode() for element in array.ravel()]
        except UnicodeDecodeError:
            raise InvalidArgument("holds bytes that are no text; ask for binary_data", field=field) from None
    if array.dtype.kind == "V":  # bfloat16
        array = array.astype(np.float32)
    values: list[Any] = array.ravel().tolist()
    return values


def _bytes(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def _split(field: str, raw: bytes | memoryview) -> list[bytes]:
    elements: list[bytes] = []
    at, end = 0, len(raw)
    while at < end:
        begin = at + _LENGTH.size
        if begin > end or (stop := begin + _LENGTH.unpack_from(raw, at)[0]) > end:
            raise InvalidArgument(
                f"ends within element {len(elements)}: each is a little-endian uint32 length and its bytes",
                field=field,
            )
        elements.append(bytes(raw[begin:stop]))
        at = stop
    return elements


def _shaped(elements: list[bytes], shape: tuple[int, ...], field: str) -> Array:
    if len(elements) != prod(shape):
        raise _miscounted(field, shape, len(elements))
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def _miscounted(field: str, shape: tuple[int, ...], count: int) -> InvalidArgument:
    return InvalidArgument(
        f"should hold {prod(shape)} elements for shape {list(shape)}, not {count}", field=field
    )


Reader = Callable[[Datatype, tuple[int, ...]], Array]


def names(datatypes: Iterable[Datatype] = _ALL) -> str:
    """The datatypes' names, for people."""
    return ", ".join(datatype.name for datatype in datatypes)

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwork.errors import InvalidArgument
from meshwork.serving.oip.datatypes import (
    BY_NUMPY,
    DATATYPES,
    from_json,
    from_raw,
    from_values,
    to_json,
    to_raw,
)

PLAIN = [name for name in DATATYPES if name != "BYTES"]


@pytest.mark.parametrize("name", PLAIN)
def test_raw_bytes_are_the_array_and_back(name: str) -> None:
    datatype = DATATYPES[name]
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(datatype.dtype)
    raw = to_raw(array)
    assert len(raw) == 6 * datatype.size
    back = from_raw("x", datatype, (3, 2), raw)
    assert back.dtype == datatype.dtype
    assert (back == array).all()
    assert BY_NUMPY[back.dtype.name] is datatype


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_json_are_the_array_and_back(name: str) -> None:
    datatype = DATATYPES[name]
    array = np.array([[0, 1], [1, 0]]).astype(datatype.dtype)
    values = to_json("x", array)
    assert len(values) == 4
    assert (from_values("x", datatype, (2, 2), values) == array).all()
    assert (from_json("x", datatype, (2, 2), values) == array).all()
    assert (from_json("x", datatype, (2, 2), [values[:2], values[2:]]) == array).all()


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9))
def test_bytes_elements_survive_whatever_they_hold(elements: list[bytes]) -> None:
    array = np.empty(len(elements), object)
    array[:] = elements
    back = from_raw("x", DATATYPES["BYTES"], (len(elements),), to_raw(array))
    assert back.tolist() == elements


@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_are_read_or_refused(raw: bytes, rows: int) -> None:
    for datatype in DATATYPES.values():
        with suppress(InvalidArgument):
            assert len(from_raw("x", datatype, (rows,), raw)) == rows


def test_a_length_that_points_past_the_end_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="element 1"):
        from_raw("x", DATATYPES["BYTES"], (2,), struct.pack("<I", 1) + b"a" + struct.pack("<I", 2**32 - 1))


def test_bytes_other_than_one_are_true_too() -> None:
    assert from_raw("x", DATATYPES["BOOL"], (3,), b"\x00\x01\x7f").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("UINT8", [1, 300], "out of bounds"),
        ("UINT8", [1, -1], "out of bounds"),
        ("INT32", [1, 1.5], "whole numbers"),
        ("INT32", [1, True], "whole numbers"),
        ("FP32", [1, "2"], "numbers"),
        ("BOOL", [1, 0], "true or false"),
        ("BYTES", [1, "a"], "texts"),
        ("FP32", [1], "2 elements"),
        ("FP32", [[1, 2], [3]], "numbers"),
        ("FP32", {"0": 1}, "a list"),
        ("FP32", None, "a list"),
    ],
)
def test_json_of_another_kind_is_refused_in_words(name: str, data: object, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        from_json("inputs[0].data", DATATYPES[name], (2,), data)


def test_text_that_is_none_must_be_asked_for_in_binary() -> None:
    array = np.array([b"\xff"], object)
    with pytest.raises(InvalidArgument, match="binary_data"):
        to_json("outputs[0]", array)

"""Whatever comes from outside is read, or refused in words; nothing breaks on it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwork.errors import MeshworkError
from meshwork.inference.v2 import open_inference_pb2 as pb
from meshwork.serving.oip.datatypes import DATATYPES
from meshwork.serving.oip.messages import given as tensors_of
from meshwork.serving.oip.messages import wanted
from meshwork.serving.oip.rest_body import Body
from meshwork.serving.oip.signature import Signature
from tests.interop.tensor_service import Line, Mirror

SIGNATURES = [Signature(Line().tensors), Signature(Mirror().tensors)]
NAMES = st.sampled_from(["x", "y", "in_BYTES", "in_BF16", "in_BOOL", "in_INT8", ""])
KINDS = st.sampled_from([*DATATYPES, "", "FP31"])
SIZES = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**62, 2**63 - 1])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES | anything,
        "datatype": KINDS | anything,
        "shape": st.lists(SIZES | anything, max_size=4) | anything,
        "data": anything | st.lists(scalars, max_size=4),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": SIZES | anything}) | anything,
    },
)
body = st.fixed_dictionaries(
    {"inputs": st.lists(tensor | anything, max_size=3) | anything},
    optional={
        "id": anything,
        "parameters": anything,
        "outputs": st.lists(st.fixed_dictionaries({}, optional={"name": NAMES, "parameters": anything})),
    },
)


@settings(max_examples=300, deadline=None)
@given(body | anything, st.binary(max_size=20), st.booleans())
def test_any_json_is_read_or_refused(content: Any, behind: bytes, binary: bool) -> None:
    head = json.dumps(content).encode()
    for signature in SIGNATURES:
        with suppress(MeshworkError):
            read = Body.read(head + behind, str(len(head)) if binary else None)
            signature.wanted(tuple(read.outputs))
            signature.read(read.given())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=6) | st.none())
def test_any_bytes_are_a_body_or_refused(raw: bytes, length: str | None) -> None:
    with suppress(MeshworkError):
        Body.read(raw, length)


contents = st.builds(
    pb.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=3),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=3),
)
inputs = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=NAMES,
    datatype=KINDS,
    shape=st.lists(SIZES, max_size=4),
    contents=st.none() | contents,
)
requests = st.builds(
    pb.ModelInferRequest,
    inputs=st.lists(inputs, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=20), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_any_message_is_read_or_refused(request: pb.ModelInferRequest) -> None:
    for signature in SIGNATURES:
        with suppress(MeshworkError):
            signature.wanted(wanted(request))
            signature.read(tensors_of(request))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(raw)
    except DecodeError:
        return
    for signature in SIGNATURES:
        with suppress(MeshworkError):
            signature.read(tensors_of(request))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.booleans())
def test_a_good_body_is_what_was_sent(rows: int, columns: int, nested: bool, binary: bool) -> None:
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    entry: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [rows, columns]}
    behind = b""
    if binary:
        behind = x.tobytes()
        entry["parameters"] = {"binary_data_size": len(behind)}
    else:
        entry["data"] = x.tolist() if nested else x.ravel().tolist()
    head = json.dumps({"inputs": [entry]}).encode()
    read = Body.read(head + behind, str(len(head)) if binary else None)
    assert (SIGNATURES[0].read(read.given())["x"] == x).all()

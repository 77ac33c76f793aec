"""The peers that speak gRPC: Triton and MLServer (Open Inference Protocol), and Ray (a message of ours)."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.peers import protobuf
from benchmarks.peers.requests import Array
from benchmarks.peers.wire import GrpcWire
from meshwork.protobuf import nested, varint


class OpenInference(GrpcWire):
    """ModelInfer with raw contents: one tensor to the model named as the workload, one tensor back."""

    method = "/inference.GRPCInferenceService/ModelInfer"
    tensor = b"x"

    def encode(self, value: Any) -> bytes:
        """A row of FP32, or a text or file as one element of BYTES."""
        if self.workload == "vector":
            kind, shape, raw = b"FP32", (1, 64), value.tobytes()
        else:
            content = value.encode() if self.workload == "text" else value
            kind, shape, raw = b"BYTES", (1, 1), len(content).to_bytes(4, "little") + content
        sizes = b"".join(varint(size) for size in shape)
        tensor = nested(1, self.tensor) + nested(2, kind) + nested(3, sizes)
        name = nested(1, self.workload.encode())
        return name + nested(5, tensor) + nested(7, raw)

    def decode(self, answer: bytes) -> Array:
        """The first raw output, or the first output's fp32_contents."""
        found = dict(protobuf.fields(answer))
        if 6 in found:
            return np.frombuffer(found[6], np.float32)
        contents = dict(protobuf.fields(found[5]))[5]
        return np.frombuffer(dict(protobuf.fields(contents))[6], np.float32)


class Ray(GrpcWire):
    """A rpc of the deployment's own: bytes in, float32 bytes out."""

    method = "/peer.Infer/Predict"
    metadata = (("application", "peer"),)

    def encode(self, value: Any) -> bytes:
        """UTF-8, float32 bytes, or the JPEG file."""
        content = value.encode() if self.workload == "text" else bytes(value)
        return BytesValue(value=content).SerializeToString()

    def decode(self, answer: bytes) -> Array:
        """Float32 numbers."""
        return np.frombuffer(BytesValue.FromString(answer).value, np.float32)

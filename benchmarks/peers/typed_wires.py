"""Meshwork's typed rpcs, spoken as its SDK does."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.requests import Array
from benchmarks.peers.wire import GrpcWire
from meshwork.nlp.v1 import nlp_pb2
from meshwork.vision.v1 import vision_pb2


class ClassifyText(GrpcWire):
    """The text workload."""

    method = "/meshwork.nlp.v1.NlpService/ClassifyText"

    def encode(self, value: Any) -> bytes:
        """A text for the default model, which has its own labels."""
        return nlp_pb2.ClassifyTextRequest(text=value).SerializeToString()

    def decode(self, answer: bytes) -> Array:
        """The scores in the order of the model's classes."""
        found = nlp_pb2.ClassifyTextResponse.FromString(answer).classifications
        scores = {each.label: each.score for each in found}
        return np.array([scores["negative"], scores["positive"]], np.float32)


class Classify(GrpcWire):
    """The image workload."""

    method = "/meshwork.vision.v1.VisionService/Classify"

    def encode(self, value: Any) -> bytes:
        """A JPEG file for the default model."""
        return vision_pb2.ClassifyRequest(image=vision_pb2.Image(content=value)).SerializeToString()

    def decode(self, answer: bytes) -> Array:
        """The five likeliest classes' numbers, then their probabilities."""
        found = vision_pb2.ClassifyResponse.FromString(answer).classifications
        numbers = [float(each.label.removeprefix("class ")) for each in found]
        return np.array([*numbers, *(each.score for each in found)], np.float32)

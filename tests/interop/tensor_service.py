"""A replica of small models on tensors: `python -m tests.interop.tensor_service nlp`, or of vision."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

import meshwork.nlp.v1.nlp_pb2
import meshwork.vision.v1.vision_pb2  # noqa: F401 - with the one above, for the typed services' descriptors
from meshwork.errors import InvalidArgument, MeshworkError, Unimplemented
from meshwork.server import ServiceContext, ServiceSpec, main
from meshwork.serving.card import ModelDirectory
from meshwork.serving.engines.engine import Array, Engine, TensorSpec, Verdict
from meshwork.serving.oip.datatypes import BY_NUMPY
from meshwork.serving.task import Task

FULL_NAMES = {"nlp": "meshwork.nlp.v1.NlpService", "vision": "meshwork.vision.v1.VisionService"}
TASKS = ("Mirror", "Line", "Words")


def spec(service: str) -> ServiceSpec:
    return ServiceSpec(
        name=service,
        full_name=FULL_NAMES[service],
        tasks={name.lower(): f"tests.interop.tensor_service:{name}" for name in TASKS},
        servicer="tests.interop.tensor_service:NoTypedAnswers",
    )


class NumpyEngine:
    """Runs a function on arrays."""

    name = "numpy"
    verdict: Verdict | None = None

    def __init__(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], function: Any
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.run = function

    def memory_bytes(self) -> int:
        return 1

    def close(self) -> None:
        return


class Words(Task[str, str, str, str]):
    """A task without tensors."""

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        return cls()

    def warm_up(self) -> None:
        return

    def preprocess(self, request: str) -> str:
        return request

    def forward(self, batch: Sequence[str]) -> Sequence[str | MeshworkError]:
        return batch

    def postprocess(self, prepared: str, raw: str) -> str:
        return raw


class Mirror(Words):
    """Gives each row back as it came, for every datatype: `in_FP32` as `out_FP32`, [rows, 2]."""

    @property
    def tensors(self) -> Engine:
        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            return {name.replace("in_", "out_"): array for name, array in inputs.items()}

        specs = {
            way: tuple(
                TensorSpec(name=f"{way}_{each.name}", dtype=numpy, shape=(None, 2))
                for numpy, each in BY_NUMPY.items()
            )
            for way in ("in", "out")
        }
        return NumpyEngine(specs["in"], specs["out"], run)


class Line(Words):
    """`y = 2 x + 1` and `rows = x's rows in the batch`, for x [rows, any]; refuses x that holds -1.

    `y` is float32, `rows` int64. Where x holds 1000 it takes its time.
    """

    @property
    def tensors(self) -> Engine:
        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            x = inputs["x"]
            if (x == -1).any():
                raise InvalidArgument("should not hold -1", field="x")
            if (x == 1000).any():
                time.sleep(0.3)
            return {"y": x * 2 + 1, "rows": np.full((len(x), 1), len(x))}

        return NumpyEngine(
            (TensorSpec(name="x", dtype="float32", shape=(None, None)),),
            (
                TensorSpec(name="y", dtype="float32", shape=(None, None)),
                TensorSpec(name="rows", dtype="int64", shape=(None, 1)),
            ),
            run,
        )


class NoTypedAnswers:
    """The typed service, of which these tests ask nothing."""

    def __init__(self, context: ServiceContext) -> None:
        return

    def __getattr__(self, method: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            raise Unimplemented(f"{method} is not what these tests ask")

        return answer


if __name__ == "__main__":
    main(spec(sys.argv[1]))

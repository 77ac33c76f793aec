"""Replicas of small tensor models behind a gateway, and what Triton's clients say of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from meshwork import logs
from tests.interop import environment
from tests.mesh.gateway.conftest import Mesh, until

CHECKS = Path(__file__).with_name("triton_checks.py")
MODELS = {
    "nlp": [("mirror", "1"), ("line", "1"), ("line", "2"), ("words", "1")],
    "vision": [("line", "3"), ("mirror", "1")],  # of the same names: nlp comes first
}
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """Where a client finds the protocol."""

    grpc: str
    http: str


def product(folder: Path) -> str:
    """An ONNX file: `y = x w` for x float32 [rows, 64], where w[i, j] = (i + j) / 64."""
    weights = (np.add.outer(np.arange(64), np.arange(8)) / 64).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "product.onnx"
    onnx.save(model, path)
    return str(path)


def cards(folder: Path, service: str) -> str:
    """The models of a service, as MESHWORK_MODELS takes them."""
    sources = []
    for name, version in MODELS[service]:
        path = folder / f"{service}-{name}-{version}"
        path.mkdir()
        path.joinpath("card.yaml").write_text(
            f'name: {name}\nversion: "{version}"\nservice: {service}\ntask: {name}\n'
            f"methods: [{'Embed' if service == 'nlp' else 'Classify'}]\n"
        )
        sources.append({"source": str(path)})
    if service == "nlp":
        sources.append({"source": product(folder)})
    return json.dumps(sources)


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A replica of nlp and one of vision behind a gateway."""
    folder = tmp_path_factory.mktemp("interop")
    mesh = Mesh(folder, max_message_bytes=MAX_MESSAGE_BYTES)
    try:
        for service in MODELS:
            mesh.environment |= {"MESHWORK_MODELS": cards(folder, service), "MESHWORK_REPLICA": service}
            mesh.start(service, "-m", "tests.interop.tensor_service", service)
        mesh.start_router()
        until(lambda: mesh.http("GET", "/v2/models/line")[0] == 200, "the gateway has line")
        until(lambda: mesh.http("GET", "/v2/models/vision/mirror")[0] == 200, "the gateway has vision")
        yield mesh
    finally:
        mesh.stop()


def said(mesh: Mesh, replica: str, words: str) -> str:
    """What stands behind `words` in a replica's log, once it does."""
    until(lambda: words in mesh.log(replica), f"{replica} says {words!r}")
    return logs.said(mesh.log(replica), words)


@pytest.fixture(scope="session")
def targets(mesh: Mesh) -> dict[str, Target]:
    """The replica of nlp by itself, and the gateway."""
    return {
        "replica": Target(said(mesh, "nlp", "ready on"), said(mesh, "nlp", "REST on")),
        "gateway": Target(mesh.gateway, mesh.gateway),
    }


@pytest.fixture(scope="session")
def outcomes(targets: dict[str, Target]) -> Callable[[str], dict[str, str]]:
    """By target, how each of Triton's checks ended: "" for well."""
    python = environment.python()
    known: dict[str, dict[str, str]] = {}

    def of(name: str) -> dict[str, str]:
        if name not in known:
            target = targets[name]
            done = subprocess.run(
                [python, CHECKS, target.grpc, target.http], capture_output=True, text=True, timeout=120
            )
            known[name] = dict(json.loads(line) for line in done.stdout.splitlines())
            assert done.returncode == 0, done.stderr
        return known[name]

    return of

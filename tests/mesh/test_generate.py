"""Text generation through the gateway: SDK, REST and the command line."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwork.nlp.v1 import nlp_pb2
from tests.mesh.conftest import Mesh
from tests.unit.services.nlp.tiny_causal_lms import save


@pytest.fixture(scope="module")
def writer(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small language model of the mesh, by name."""
    folder: Path = save(tmp_path_factory.mktemp("models") / "writer", chat=True)
    added = mesh.run("models", "add", "writer", "--service", "nlp", "--source", str(folder))
    assert added.returncode == 0, added.stdout + added.stderr
    yield "writer"
    assert mesh.run("models", "remove", "writer", "--service", "nlp").returncode == 0


def test_a_text_comes_the_same_by_sdk_rest_and_command_line(mesh: Mesh, writer: str) -> None:
    with mesh.client() as client:
        pieces = list(client.nlp.generate(model=writer, prompt="the cat", max_output_tokens=20))
    text = "".join(piece.text for piece in pieces)
    assert len(pieces) > 1
    assert pieces[-1].finish_reason == nlp_pb2.FINISH_REASON_LENGTH

    body = {"model": writer, "prompt": "the cat", "maxOutputTokens": 20}
    request = urllib.request.Request(
        f"http://{mesh.address}/v1/nlp:generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answers = json.loads(response.read())
    assert "".join(answer.get("text", "") for answer in answers) == text
    assert answers[-1]["finishReason"] == "FINISH_REASON_LENGTH"
    assert answers[-1]["outputTokenCount"] == 20

    printed = mesh.run(
        *("call", "nlp", "generate", "the cat", "--model", writer, "--max-output-tokens", "20", "--json")
    )
    assert printed.returncode == 0, printed.stderr
    assert '"output_token_count": 20' in printed.stdout


def test_one_who_leaves_a_stream_through_the_gateway_leaves_the_mesh_well(mesh: Mesh, writer: str) -> None:
    with mesh.client() as client:
        for _ in range(20):
            pieces = client.nlp.generate(model=writer, prompt="the", max_output_tokens=200)
            next(pieces)
            pieces.close()  # type: ignore[attr-defined]
        (last,) = list(client.nlp.generate(model=writer, prompt="the", max_output_tokens=1))[-1:]
    assert last.served_by.batch_size < 20

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

import meshwork
from meshwork import channel
from meshwork.client import DEFAULT_TIMEOUT_S
from meshwork.errors import (
    DeadlineExceeded,
    InvalidArgument,
    MeshworkError,
    Overloaded,
    Unavailable,
    tree,
)
from meshwork.names import CALLER_HEADER, IDEMPOTENCY_HEADER, MODEL_HEADER, PRIORITY_HEADER
from meshwork.nlp.v1 import nlp_pb2
from meshwork.recommendation.v1 import recommendation_pb2
from meshwork.vision.v1 import vision_pb2
from tests.unit.recording_server import Recorder


def test_the_public_names_are_these() -> None:
    assert set(meshwork.__all__) == {
        "AsyncClient",
        "Client",
        "MeshworkError",
        "__version__",
        "connect",
        "connect_async",
    }
    for name in meshwork.__all__:
        assert getattr(meshwork, name)
    with pytest.raises(AttributeError, match="nonsense"):
        meshwork.nonsense  # noqa: B018


def test_a_call_has_the_default_deadline_the_client_s_or_its_own(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address) as mesh:
        mesh.nlp.embed("x")
        mesh.nlp.embed("x", timeout_s=3)
    with meshwork.connect(recorder.address, timeout_s=7) as mesh:
        mesh.nlp.embed("x")
    remaining = [call.remaining_s or 0 for call in recorder.calls]
    for seconds, most in zip(remaining, (DEFAULT_TIMEOUT_S, 3, 7), strict=True):
        assert 0 < seconds <= most + 0.5  # the wire rounds up
    assert remaining[0] > 7


def test_a_client_may_have_no_deadline(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address, timeout_s=None) as mesh:
        mesh.nlp.embed("x")
    remaining = recorder.calls[0].remaining_s
    assert remaining is None or remaining > 1e6


def test_the_model_stands_in_the_header_that_routes_read(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address) as mesh:
        mesh.nlp.embed("x", model="minilm@1")
        mesh.nlp.embed("x")
    named, unnamed = recorder.calls
    assert named.metadata[MODEL_HEADER] == "minilm@1"
    assert MODEL_HEADER not in unnamed.metadata


async def test_priority_and_caller_travel_beside_every_call(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address, priority="batch", caller="night job") as mesh:
        mesh.nlp.embed("x", model="m")
    async with meshwork.connect_async(recorder.address, priority="interactive") as mesh:
        await mesh.nlp.embed("x")
    batch, interactive = recorder.calls
    sent = {name: batch.metadata[name] for name in (PRIORITY_HEADER, CALLER_HEADER, MODEL_HEADER)}
    assert sent == {PRIORITY_HEADER: "batch", CALLER_HEADER: "night%20job", MODEL_HEADER: "m"}
    assert interactive.metadata[PRIORITY_HEADER] == "interactive"
    assert CALLER_HEADER not in interactive.metadata


def test_a_change_carries_a_request_id_of_its_own_unless_the_caller_gives_one(recorder: Recorder) -> None:
    events = [recommendation_pb2.Event(user="u", item="i")]
    with meshwork.connect(recorder.address) as mesh:
        mesh.recommendation.record_events(events)
        mesh.recommendation.record_events(events)
        mesh.recommendation.record_events(events, request_id="mine")
    assert all(call.metadata[IDEMPOTENCY_HEADER] == "1" for call in recorder.calls)
    first, second, mine = (call.request.request_id for call in recorder.calls)
    assert first
    assert first != second
    assert mine == "mine"


def test_an_unavailable_call_is_tried_again_within_its_deadline(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away")] * 2
    with meshwork.connect(recorder.address) as mesh:
        mesh.nlp.embed("x")
    assert len(recorder.calls) == 3


def test_tries_end_after_the_fifth(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away")] * 9
    with meshwork.connect(recorder.address) as mesh, pytest.raises(Unavailable, match="away"):
        mesh.nlp.embed("x")
    assert len(recorder.calls) == 5


@pytest.mark.parametrize(
    "kind", sorted((kind for kind in tree() if not issubclass(kind, Unavailable)), key=lambda k: k.__name__)
)
def test_any_other_error_is_raised_as_what_it_is_and_not_tried_again(
    recorder: Recorder, kind: type[MeshworkError]
) -> None:
    recorder.errors = [kind("as it is", metadata={"fact": "7"}, retry_after_s=1.5)]
    with meshwork.connect(recorder.address) as mesh, pytest.raises(MeshworkError) as caught:
        mesh.nlp.embed("x")
    assert type(caught.value) is kind
    assert str(caught.value) == "as it is"
    assert caught.value.metadata["fact"] == "7"
    assert caught.value.retry_after_s == 1.5
    assert len(recorder.calls) == 1


def test_a_change_without_a_request_id_is_not_made_twice(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away")]
    with meshwork.connect(recorder.address) as mesh, pytest.raises(Unavailable, match="away"):
        mesh.admin.load_model("digits")
    assert len(recorder.calls) == 1


def test_a_change_with_one_is_and_keeps_it(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away")]
    with meshwork.connect(recorder.address) as mesh:
        mesh.recommendation.record_events([recommendation_pb2.Event(user="u", item="i")])
    first, second = (call.request.request_id for call in recorder.calls)
    assert first == second


def test_a_large_request_is_tried_again_too(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away")]
    with meshwork.connect(recorder.address) as mesh:
        mesh.vision.classify(bytes(3_000_000))
    assert [len(call.request.image.content) for call in recorder.calls] == [3_000_000] * 2


async def test_a_refusal_is_waited_out_where_the_caller_says_so_and_the_deadline_allows(
    recorder: Recorder,
) -> None:
    recorder.errors = [Overloaded("full", retry_after_s=0.01)] * 2
    with meshwork.connect(recorder.address, wait_when_full=True) as mesh:
        mesh.nlp.embed("x")
        recorder.errors = [Overloaded("full", retry_after_s=60)]
        with pytest.raises(Overloaded):
            mesh.nlp.embed("x", timeout_s=5)
    assert len(recorder.calls) == 4
    recorder.errors = [Overloaded("full", retry_after_s=0.01)]
    async with meshwork.connect_async(recorder.address, wait_when_full=True) as mesh:
        await mesh.nlp.embed("x")
    assert len(recorder.calls) == 6


async def test_a_call_may_carry_metadata_of_its_own(recorder: Recorder) -> None:
    recorder.answers["Generate"] = [nlp_pb2.GenerateResponse(text="a")]
    sent = (("x-session", "alice"),)
    with meshwork.connect(recorder.address, caller="me") as mesh:
        mesh.nlp.embed("x", metadata=sent)
        list(mesh.nlp.generate(prompt="x", metadata=sent))
        mesh.router.list_models(metadata=sent)
    async with meshwork.connect_async(recorder.address, caller="me") as mesh:
        await mesh.nlp.embed("x", metadata=sent)
    for call in recorder.calls:
        assert call.metadata["x-session"] == "alice"
        assert call.metadata[CALLER_HEADER] == "me"
    assert len(recorder.calls) == 4


def test_a_deadline_that_passes_raises_deadline_exceeded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with meshwork.connect(address) as mesh, pytest.raises((DeadlineExceeded, Unavailable)):
            mesh.nlp.embed("x", timeout_s=0.2)


async def test_the_asyncio_client_does_as_the_other(recorder: Recorder) -> None:
    recorder.errors = [Unavailable("away"), Overloaded("full", retry_after_s=2)]
    async with meshwork.connect_async(recorder.address, timeout_s=9) as mesh:
        with pytest.raises(Overloaded) as full:
            await mesh.nlp.embed("x", model="m")
        await mesh.nlp.embed("x")
        assert [page async for page in mesh.router.watch()]
    assert full.value.retry_after_s == 2
    assert [call.method for call in recorder.calls] == ["Embed", "Embed", "Embed", "Watch"]
    assert recorder.calls[0].metadata[MODEL_HEADER] == "m"
    assert 0 < (recorder.calls[2].remaining_s or 0) <= 9.5


@pytest.mark.parametrize("many", [False, True], ids=["one", "several"])
def test_images_may_be_one_or_several_in_any_form(recorder: Recorder, tmp_path: Path, many: bool) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"abc")
    uri = "data:image/png;base64,eA=="
    given: list[Any] = [b"abc", str(file), file, uri, vision_pb2.Image(content=b"abc")]
    wanted = [vision_pb2.Image(uri=uri) if each is uri else vision_pb2.Image(content=b"abc") for each in given]
    with meshwork.connect(recorder.address) as mesh:
        for entry in [given] if many else given:
            mesh.vision.embed_image(images=entry, texts="a cat")
    assert [image for call in recorder.calls for image in call.request.images] == wanted
    assert list(recorder.calls[0].request.texts) == ["a cat"]


async def test_media_that_cannot_be_read_costs_no_call(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address) as mesh, pytest.raises(InvalidArgument) as refusal:
        mesh.vision.classify("nowhere.png")
    assert refusal.value.field == "image.content"
    assert not recorder.calls


def test_a_pipelines_inputs_are_plain_values_and_bytes(recorder: Recorder) -> None:
    inputs = {"image": b"abc", "count": 2, "many": [b"abc", {"x": ("a", None)}]}
    with meshwork.connect(recorder.address) as mesh:
        mesh.pipeline.run(inputs, model="read-aloud")
        with pytest.raises(InvalidArgument) as refusal:
            mesh.pipeline.run({"image": object()})
    assert refusal.value.field == "inputs"
    (call,) = recorder.calls
    sent = {"image": "YWJj", "count": 2, "many": ["YWJj", {"x": ["a", None]}]}
    assert json_format.MessageToDict(call.request.inputs) == sent
    assert call.request.request_id, "so that it may be repeated"


def test_importing_meshwork_alone_loads_neither_grpc_nor_torch() -> None:
    code = "import sys, meshwork; sys.exit(bool({'grpc', 'torch', 'redis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:8080", "https://mesh.example"])
def test_an_address_that_is_no_host_and_port_is_refused_by_its_name(address: str) -> None:
    with pytest.raises(InvalidArgument, match=r"host:port"):
        meshwork.connect(address)

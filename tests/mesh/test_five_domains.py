"""One address answers real input in all five domains, from the SDK, the CLI and REST."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import meshwork
from meshwork import errors
from meshwork.contract import descriptor
from meshwork.errors import InvalidArgument, ModelNotFound, from_rpc_error
from meshwork.recommendation.v1 import recommendation_pb2
from tests.mesh.conftest import ROOT, SERVICES, Mesh

SEVEN = ROOT / "samples" / "seven.png"
HELLO = ROOT / "samples" / "hello.wav"


def post(mesh: Mesh, path: str, body: object) -> tuple[int, Any]:
    """POSTs JSON to the gateway; the HTTP status and the decoded answer."""
    request = urllib.request.Request(
        f"http://{mesh.address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_vision_sees(mesh: Mesh) -> None:
    with mesh.client() as client:
        answer = client.vision.classify(SEVEN, top_k=3)
    assert answer.classifications[0].label == "7"
    assert len(answer.classifications) == 3
    assert answer.served_by.model == "digits"


def test_nlp_reads(mesh: Mesh) -> None:
    with mesh.client() as client:
        assert len(client.nlp.embed(["one", "two"]).embeddings) == 2
        match = client.nlp.match_texts("a place to sleep", ["bakery", "hotel"]).matches[0]
        label = client.nlp.classify_text("the train was late again", labels=["travel", "cooking"])
    assert match.text == "hotel"
    assert label.classifications[0].label == "travel"


def test_speech_hears_and_speaks(mesh: Mesh) -> None:
    with mesh.client() as client:
        assert client.speech.recognize(HELLO).transcript == "hello world"
        spoken = client.speech.synthesize("hello world")
        assert spoken.audio_content[:4] == b"RIFF"
        assert client.speech.list_voices(language_code="fr")


def test_translation_translates(mesh: Mesh) -> None:
    with mesh.client() as client:
        answer = client.translation.translate_text(["where is the station"], "fr")
        assert "gare" in answer.translations[0].text
        assert answer.translations[0].source_language == "en"
        assert client.translation.detect_language("Wo ist der Bahnhof?").languages[0].language_code == "de"
        assert {"en", "fr", "es", "de", "zh"} <= {
            language.language_code for language in client.translation.list_languages()
        }


def test_a_pipeline_sees_and_then_speaks(mesh: Mesh) -> None:
    with mesh.client() as client:
        answer = client.pipeline.run({"image": SEVEN.read_bytes()}, model="read-aloud")
        with pytest.raises(InvalidArgument, match=r"^step digit: ") as wrong:
            client.pipeline.run({"image": b"no image"}, model="read-aloud")
    assert answer.outputs["digit"] == "7"
    assert base64.b64decode(str(answer.outputs["audio"]))[:4] == b"RIFF"
    assert [(step.name, step.served_by.model) for step in answer.steps] == [
        ("digit", "digits"),
        ("words", "espeak"),
    ]
    assert (wrong.value.field, wrong.value.metadata["step"]) == ("image.content", "digit")


def test_an_event_recorded_now_changes_the_next_recommendation(mesh: Mesh) -> None:
    with mesh.client() as client:
        cold = client.recommendation.recommend(user="newcomer", count=5)
        taken = [cold.items[0].item, cold.items[1].item]
        client.recommendation.record_events(
            [recommendation_pb2.Event(user="newcomer", item=item) for item in taken]
        )
        warm = client.recommendation.recommend(user="newcomer", count=5)
        similar = client.recommendation.similar_items(taken[0])
    assert cold.history_size == 0
    assert warm.history_size == 2
    assert not set(taken) & {item.item for item in warm.items}
    assert similar.items


async def test_the_asyncio_client_does_the_same(mesh: Mesh) -> None:
    async with meshwork.connect_async(mesh.address) as client:
        answer = await client.vision.classify(SEVEN)
    assert answer.classifications[0].label == "7"


def test_rest_gives_what_grpc_gives(mesh: Mesh) -> None:
    content = base64.b64encode(SEVEN.read_bytes()).decode()
    status, answer = post(mesh, "/v1/vision:classify", {"image": {"content": content}, "topK": 1})
    assert status == 200
    assert answer["classifications"][0]["label"] == "7"


def test_the_router_lists_every_model_with_its_licence(mesh: Mesh) -> None:
    with mesh.client() as client:
        models = client.router.list_models()
        services = client.router.list_services()
    assert {model.model.service for model in models} == set(SERVICES)
    assert all(model.model.licence for model in models)
    assert {service.name for service in services} == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_serves_health_and_reflection(mesh: Mesh, service: str) -> None:
    name = descriptor(service).full_name
    with mesh.client() as client:
        (replica,) = client.router.list_replicas(service=service)
    for address in (replica.address, mesh.address):
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for asked in ("", name):
                request = health_pb2.HealthCheckRequest(service=asked)
                assert health.Check(request, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
                watched = next(health.Watch(request, timeout=20))
                assert watched.status == health_pb2.HealthCheckResponse.SERVING
            described = ProtoReflectionDescriptorDatabase(channel)
            assert name in described.get_services()


def test_watch_begins_with_what_is_there(mesh: Mesh) -> None:
    with mesh.client() as client:
        first = next(client.router.watch(service="vision", timeout_s=20))
    assert first.replica.service == "vision"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.vision.classify(b"x", model="zebra"),
        lambda client: client.nlp.embed("x", model="zebra"),
        lambda client: client.speech.synthesize("x", model="zebra@3"),
        lambda client: client.translation.detect_language("x", model="zebra"),
        lambda client: client.recommendation.recommend(user="x", model="zebra"),
        lambda client: client.pipeline.run({}, model="zebra"),
    ],
    ids=SERVICES,
)
def test_an_unknown_model_is_not_found_and_the_existing_are_listed(
    mesh: Mesh, call: Callable[[meshwork.Client], object]
) -> None:
    with mesh.client() as client, pytest.raises(ModelNotFound) as error:
        call(client)
    assert "@1" in str(error.value)


def test_wrong_bytes_name_the_field(mesh: Mesh) -> None:
    with mesh.client() as client:
        with pytest.raises(InvalidArgument) as image:
            client.vision.classify(b"not an image")
        with pytest.raises(InvalidArgument) as audio:
            client.speech.recognize(b"not audio")
    assert image.value.field == "image.content"
    assert audio.value.field == "audio.content"
    status, body = post(mesh, "/v1/vision:classify", {"image": {"content": "AAAA"}})
    assert status == 400
    assert body["details"]


GARBAGE = [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x07", bytes(range(256)), b"\x0a\x02\xff\xfe"]


@pytest.mark.parametrize("service", SERVICES)
async def test_malformed_messages_are_refused_and_hurt_no_one(mesh: Mesh, service: str) -> None:
    found = descriptor(service)
    refused = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    before = {process.name: process.pid for process in mesh.record().processes}
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        for method in found.methods:
            call: Any = channel.unary_unary(f"/{found.full_name}/{method.name}")
            for garbage in GARBAGE:
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await call(garbage, timeout=20)
                assert failure.value.code() in refused, from_rpc_error(failure.value)
    assert {process.name: process.pid for process in mesh.record().processes} == before


def test_a_request_above_the_limit_says_the_limit(mesh: Mesh) -> None:
    with mesh.client() as client, pytest.raises(errors.ResourceExhausted) as refusal:
        client.vision.classify(b"\x89PNG" + bytes(65 * 1024 * 1024))
    assert "67108864" in str(refusal.value) or "64 M" in str(refusal.value)


def test_a_large_request_below_the_limit_reaches_the_service(mesh: Mesh) -> None:
    with mesh.client() as client, pytest.raises(InvalidArgument):
        client.vision.classify(b"\x89PNG" + bytes(60 * 1024 * 1024))

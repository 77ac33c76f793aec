"""What callers get through the gateway: routing by model, errors, REST, gRPC-Web."""

from __future__ import annotations

import http.client
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from meshwork.errors import (
    InvalidArgument,
    ModelNotFound,
    TooLarge,
    Unavailable,
    Unimplemented,
    from_rpc_error,
)
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2, router_pb2_grpc
from meshwork.vision.v1 import vision_pb2, vision_pb2_grpc

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def channel(mesh: Any) -> Iterator[grpc.Channel]:
    with mesh.channel() as opened:
        yield opened


@pytest.fixture(scope="module")
def nlp(channel: grpc.Channel) -> nlp_pb2_grpc.NlpServiceStub:
    stub = nlp_pb2_grpc.NlpServiceStub(channel)
    stub.Embed(nlp_pb2.EmbedRequest(texts=["a"]), timeout=TIMEOUT_S, wait_for_ready=True)
    return stub


def failure(call: Any, request: Any, **options: Any) -> Exception:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=TIMEOUT_S, **options)
    return from_rpc_error(caught.value)


@pytest.mark.parametrize("model", ["", "minilm", "minilm@1", "other", "other@2", "other@10"])
def test_a_model_that_exists_is_served(nlp: nlp_pb2_grpc.NlpServiceStub, model: str) -> None:
    answer = nlp.Embed(nlp_pb2.EmbedRequest(texts=["a"], model=model), timeout=TIMEOUT_S)
    assert answer.served_by.replica == "nlp-1"


@pytest.mark.parametrize("model", ["nope", "minilm@9", "mini\nlm", "mini lm", "éü", "x" * 300])
def test_an_unknown_model_is_not_found_and_the_models_that_exist_are_listed(
    nlp: nlp_pb2_grpc.NlpServiceStub, model: str
) -> None:
    error = failure(nlp.Embed, nlp_pb2.EmbedRequest(texts=["a"], model=model))
    assert isinstance(error, ModelNotFound)
    assert error.metadata["models"] == "minilm@1, other@10, other@2"


def test_the_body_says_the_model_whatever_header_the_caller_sends(nlp: nlp_pb2_grpc.NlpServiceStub) -> None:
    spoofed = (("x-meshwork-model", "nope"),)
    nlp.Embed(nlp_pb2.EmbedRequest(texts=["a"]), timeout=TIMEOUT_S, metadata=spoofed)


def test_a_service_without_a_replica_is_unavailable_and_named(channel: grpc.Channel, nlp: Any) -> None:
    error = failure(vision_pb2_grpc.VisionServiceStub(channel).Classify, vision_pb2.ClassifyRequest())
    assert isinstance(error, Unavailable)
    assert "service vision has no ready replica" in str(error)
    assert error.retry_after_s == 1.0


@pytest.mark.parametrize("path", ["/foo.Bar/Baz", "/meshwork.nlp.v1.NlpService/Sing"])
def test_an_unknown_method_is_unimplemented(channel: grpc.Channel, nlp: Any, path: str) -> None:
    assert isinstance(failure(channel.unary_unary(path), b""), Unimplemented)


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel, nlp: Any) -> None:
    call = channel.unary_unary("/meshwork.nlp.v1.NlpService/Embed")
    assert isinstance(failure(call, b"\xff\xff\xff"), InvalidArgument)


def test_a_message_of_twenty_megabytes_is_routed_by_its_model(nlp: nlp_pb2_grpc.NlpServiceStub) -> None:
    request = nlp_pb2.EmbedRequest(texts=["a" * 20_000_000], model="other")
    assert nlp.Embed(request, timeout=TIMEOUT_S).served_by.replica == "nlp-1"


def test_a_message_above_the_limit_is_refused_and_the_limit_said(nlp: nlp_pb2_grpc.NlpServiceStub) -> None:
    error = failure(nlp.Embed, nlp_pb2.EmbedRequest(texts=["a" * (64 * 1024 * 1024)]))
    assert isinstance(error, TooLarge)
    assert error.metadata["limit_bytes"] == str(64 * 1024 * 1024)


def test_the_callers_deadline_holds(nlp: nlp_pb2_grpc.NlpServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        nlp.Embed(nlp_pb2.EmbedRequest(texts=["sleep"]), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_discovery_health_and_reflection_answer_through_the_gateway(channel: grpc.Channel, nlp: Any) -> None:
    router = router_pb2_grpc.RouterServiceStub(channel)
    services = router.ListServices(router_pb2.ListServicesRequest(), timeout=TIMEOUT_S).services
    assert {service.name: service.ready_replicas for service in services}["nlp"] == 1
    assert {service.name for service in services} >= {"vision", "speech", "translation", "recommendation"}
    models = router.ListModels(router_pb2.ListModelsRequest(service="nlp"), timeout=TIMEOUT_S).models
    assert [served.model.version for served in models if served.model.name == "other"] == ["10", "2"]
    health = health_pb2_grpc.HealthStub(channel)
    codes = health_pb2.HealthCheckResponse
    for name, status in {
        "": codes.SERVING,
        "meshwork.nlp.v1.NlpService": codes.SERVING,
        "meshwork.vision.v1.VisionService": codes.NOT_SERVING,
    }.items():
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
        assert answer.status == status
    reflected = ProtoReflectionDescriptorDatabase(channel)
    assert "meshwork.vision.v1.VisionService" in reflected.get_services()
    assert reflected.FindFileContainingSymbol("meshwork.nlp.v1.NlpService").package == "meshwork.nlp.v1"


def test_a_watch_begins_with_what_is_there(channel: grpc.Channel, nlp: Any) -> None:
    watch = router_pb2_grpc.RouterServiceStub(channel).Watch(router_pb2.WatchRequest(), timeout=TIMEOUT_S)
    first = next(watch)
    watch.cancel()
    assert first.type == router_pb2.CHANGE_TYPE_ADDED
    assert first.replica.name == "nlp-1"


def test_rest_is_routed_by_its_model_and_answered_in_json(mesh: Any, nlp: Any) -> None:
    body = json.dumps({"texts": ["a"], "model": "other"}).encode()
    status, kind, answer = mesh.http("POST", "/v1/nlp:embed", body, content_type="application/json")
    assert (status, kind) == (200, "application/json")
    assert json.loads(answer)["servedBy"]["replica"] == "nlp-1"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "text"),
    [
        ("POST", "/v1/nlp:embed", b'{"model": "nope"}', 404, 5, "minilm@1"),
        ("POST", "/v1/nlp:embed", b'{"texts": [', 400, 3, "Unexpected end"),
        ("GET", "/v1/speech/voices", b"", 503, 14, "service speech"),
        ("GET", "/v1/services?bogus=1", b"", 400, 3, "bogus"),
        ("GET", "/v1/services?pageSize=-1", b"", 400, 3, "page_size"),
        ("GET", "/nowhere", b"", 404, 5, "no such path"),
    ],
)
def test_rest_errors_are_json_with_code_and_text(
    mesh: Any, nlp: Any, method: str, path: str, body: bytes, status: int, code: int, text: str
) -> None:
    got, kind, answer = mesh.http(method, path, body, content_type="application/json")
    assert (got, kind) == (status, "application/json")
    error = json.loads(answer)
    assert error["code"] == code
    assert text in error["message"]


def test_a_body_that_is_far_too_large_is_refused_before_it_is_sent(mesh: Any, nlp: Any) -> None:
    connection = http.client.HTTPConnection(mesh.gateway, timeout=TIMEOUT_S)
    connection.putrequest("POST", "/v1/nlp:embed")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(200_000_000))
    connection.endheaders()
    response = connection.getresponse()
    error = json.loads(response.read())
    connection.close()
    assert (response.status, error["code"]) == (413, 8)
    assert str(64 * 1024 * 1024) in error["message"]


def test_healthz_says_that_the_gateway_runs(mesh: Any) -> None:
    assert mesh.http("GET", "/healthz")[0] == 200


def test_grpc_web_is_answered_with_its_trailers_in_the_body(mesh: Any, nlp: Any) -> None:
    message = nlp_pb2.EmbedRequest(texts=["a"], model="other").SerializeToString()
    framed = struct.pack(">BI", 0, len(message)) + message
    status, kind, body = mesh.http(
        "POST",
        "/meshwork.nlp.v1.NlpService/Embed",
        framed,
        content_type="application/grpc-web+proto",
        x_grpc_web="1",
    )
    assert (status, kind) == (200, "application/grpc-web+proto")
    length = struct.unpack(">I", body[1:5])[0]
    assert nlp_pb2.EmbedResponse.FromString(body[5 : 5 + length]).served_by.replica == "nlp-1"
    assert body[5 + length] == 0x80
    assert b"grpc-status:0" in body[5 + length :].replace(b" ", b"")


def test_web_pages_of_this_machine_may_call_and_others_may_not(mesh: Any) -> None:
    def allowed(origin: str) -> bool:
        connection = http.client.HTTPConnection(mesh.gateway, timeout=30)
        headers = {"origin": origin, "access-control-request-method": "POST"}
        connection.request("OPTIONS", "/meshwork.nlp.v1.NlpService/Embed", headers=headers)
        answer = connection.getresponse().getheader("access-control-allow-origin")
        connection.close()
        return answer == origin

    assert allowed("http://localhost:3000")
    assert not allowed("https://evil.example")


_PROXYLESS = """
import sys, grpc
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
with grpc.insecure_channel("xds:///nlp") as channel:
    stub = nlp_pb2_grpc.NlpServiceStub(channel)
    request = nlp_pb2.EmbedRequest(texts=["a"])
    print(stub.Embed(request, timeout=30, wait_for_ready=True).served_by.replica)
    print(stub.Embed(request, timeout=30, metadata=(("x-meshwork-model", "other@2"),)).served_by.replica)
    try:
        stub.Embed(request, timeout=30, metadata=(("x-meshwork-model", "nope"),))
    except grpc.RpcError as error:
        print(error.code().name)
"""


def test_a_grpc_client_reaches_a_service_without_the_gateway(mesh: Any, nlp: Any) -> None:
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": mesh.router_address,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "test"},
    }
    environment = {**mesh.environment, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
    done = subprocess.run(
        [sys.executable, "-c", _PROXYLESS],
        env=environment,
        cwd=os.curdir,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["nlp-1", "nlp-1", "NOT_FOUND"], done.stderr


def test_a_rest_body_above_the_limit_is_refused_with_the_limit(mesh: Any, nlp: Any) -> None:
    body = b'{"texts": ["' + b"a" * 70_000_000 + b'"]}'
    got, kind, answer = mesh.http("POST", "/v1/nlp:embed", body, content_type="application/json")
    # The replica refuses it (429), or before it the gateway, where its buffers fill up first (413).
    assert got in (413, 429)
    assert kind == "application/json"
    error = json.loads(answer)
    assert error["code"] == 8
    assert str(64 * 1024 * 1024) in error["message"]

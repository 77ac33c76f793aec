"""The protocol's corners, by raw calls: KServe's and MLServer's streams, bad requests, two services."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from meshwork.errors import (
    InvalidArgument,
    MeshworkError,
    ModelNotFound,
    Unimplemented,
    from_rpc_error,
)
from meshwork.inference.v2 import open_inference_pb2 as pb
from tests.interop.conftest import MAX_MESSAGE_BYTES, Target

SERVICE = "inference.GRPCInferenceService"
TIMEOUT_S = 20
Targets = dict[str, Target]


@pytest.fixture(params=["replica", "gateway"])
async def target(request: pytest.FixtureRequest, targets: Targets) -> Target:
    return targets[request.param]


@pytest.fixture
async def channel(target: Target) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(
        target.grpc, options=[("grpc.max_send_message_length", -1)]
    ) as opened:
        yield opened


def infer(channel: grpc.aio.Channel) -> Callable[..., Any]:
    return channel.unary_unary(
        f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )


def typed(*values: float, model: str = "line", name: str = "x", id: str = "") -> pb.ModelInferRequest:  # noqa: A002
    request = pb.ModelInferRequest(model_name=model, id=id)
    tensor = request.inputs.add(name=name, datatype="FP32", shape=[1, len(values)])
    tensor.contents.fp32_contents.extend(values)
    return request


def raw(*values: float, **named: str) -> pb.ModelInferRequest:
    request = typed(*values, **named)
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(np.array(values, np.float32).tobytes())
    return request


async def failure(channel: grpc.aio.Channel, request: pb.ModelInferRequest) -> MeshworkError:
    with pytest.raises(grpc.RpcError) as caught:
        await infer(channel)(request, timeout=TIMEOUT_S)
    return from_rpc_error(caught.value)


def rest(
    target: Target, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(target.http, timeout=TIMEOUT_S)
    try:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, content, named)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


async def test_typed_contents_are_answered_typed_and_raw_ones_raw(channel: grpc.aio.Channel) -> None:
    answer = await infer(channel)(typed(1, 2), timeout=TIMEOUT_S)
    assert list(answer.outputs[0].contents.fp32_contents) == [3, 5]
    assert list(answer.outputs[1].contents.int64_contents) == [1]
    assert not answer.raw_output_contents
    answer = await infer(channel)(raw(1, 2), timeout=TIMEOUT_S)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3, 5]
    assert not answer.outputs[0].HasField("contents")


async def streamed(
    channel: grpc.aio.Channel, answer: type[Any], requests: list[pb.ModelInferRequest], **metadata: str
) -> list[Any]:
    stream = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer", pb.ModelInferRequest.SerializeToString, answer.FromString
    )
    sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    return [each async for each in stream(iter(requests), timeout=TIMEOUT_S, metadata=sent)]


async def test_a_stream_of_typed_contents_gets_kserves_answers(channel: grpc.aio.Channel) -> None:
    requests = [typed(number, id=str(number)) for number in range(5)]
    answers = await streamed(channel, pb.ModelInferResponse, requests)
    assert [answer.id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert [list(answer.outputs[0].contents.fp32_contents) for answer in answers] == [
        [1],
        [3],
        [5],
        [7],
        [9],
    ]
    assert {answer.model_name for answer in answers} == {"line"}


@pytest.mark.parametrize("make", [raw, typed])
async def test_metadata_chooses_the_form_of_a_stream(
    channel: grpc.aio.Channel, make: Callable[..., pb.ModelInferRequest]
) -> None:
    (answer,) = await streamed(channel, pb.ModelInferResponse, [make(1)], inference_stream_form="kserve")
    assert answer.model_name == "line"
    (answer,) = await streamed(
        channel, pb.ModelStreamInferResponse, [make(1)], inference_stream_form="triton"
    )
    assert answer.infer_response.model_name == "line"
    with pytest.raises(grpc.RpcError) as caught:
        await streamed(channel, pb.ModelInferResponse, [make(1)], inference_stream_form="v3")
    assert "inference-stream-form: should be triton or kserve" in str(caught.value)


async def test_kserves_stream_ends_with_the_status_of_its_bad_request(channel: grpc.aio.Channel) -> None:
    stream = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    call = stream(iter([typed(1), typed(1, name="z")]), timeout=TIMEOUT_S)
    assert (await call.read()).model_name == "line"
    with pytest.raises(grpc.RpcError) as caught:
        await call.read()
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgument)
    assert error.field == "inputs[0].name"


async def test_a_stream_works_on_several_requests_at_once(channel: grpc.aio.Channel) -> None:
    # A model that was always quick runs on the event loop until an input takes long for the first time.
    await streamed(channel, pb.ModelInferResponse, [typed(1000)])
    requests = [typed(1000), *(typed(number) for number in range(8))]
    answers = await streamed(channel, pb.ModelInferResponse, requests)
    # While the first held the device for 0.3 s, the others queued: one by one, none would have.
    assert max(answer.parameters["queue_us"].int64_param for answer in answers) > 100_000


async def test_an_empty_stream_ends_well(targets: Targets) -> None:
    async with grpc.aio.insecure_channel(targets["replica"].grpc) as channel:
        assert await streamed(channel, pb.ModelInferResponse, []) == []


def changed(change: Callable[[pb.ModelInferRequest], Any], request: pb.ModelInferRequest) -> Any:
    change(request)
    return request


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (typed(1, 2, model=""), "model_name", "name a model"),
        (typed(1, name="z"), "inputs[0].name", "takes no 'z'; it takes x"),
        (pb.ModelInferRequest(model_name="line"), "inputs", "lacks x"),
        (
            changed(lambda r: r.inputs[0].shape.append(2), typed(1, 2)),
            "inputs[0].shape",
            "of shape [-1, -1], not [1, 2, 2]",
        ),
        (
            changed(lambda r: r.inputs[0].contents.fp32_contents.append(2), typed(1, 2)),
            "inputs[0].contents.fp32_contents",
            "2 elements for shape [1, 2], not 3",
        ),
        (
            changed(lambda r: r.inputs[0].contents.int_contents.append(2), typed(1, 2)),
            "inputs[0].contents",
            "fp32_contents alone",
        ),
        (
            changed(lambda r: r.raw_input_contents.append(b"12345678"), typed(1, 2)),
            "inputs[0].contents",
            "should be empty",
        ),
        (
            changed(lambda r: r.raw_input_contents.append(b""), raw(1, 2)),
            "raw_input_contents",
            "each of the 1 inputs, not 2",
        ),
        (
            changed(lambda r: r.raw_input_contents.__setitem__(0, b"1234567"), raw(1, 2)),
            "raw_input_contents[0]",
            "hold 8 bytes for FP32 of shape [1, 2], not 7",
        ),
        (
            changed(lambda r: r.inputs[0].shape.__setitem__(0, 2**62), raw(1, 2)),
            "raw_input_contents[0]",
            "bytes for FP32",
        ),
        (
            changed(lambda r: r.inputs[0].shape.__setitem__(0, -1), raw(1, 2)),
            "inputs[0].shape",
            "not [-1, 2]",
        ),
        (
            changed(lambda r: setattr(r.inputs[0], "datatype", "FP33"), raw(1, 2)),
            "inputs[0].datatype",
            "the datatypes are BOOL",
        ),
        (changed(lambda r: r.inputs.append(r.inputs[0]), typed(1)), "inputs[1].name", "stands twice"),
        (changed(lambda r: r.outputs.add(name="z"), typed(1)), "outputs[0].name", "gives no 'z'; it gives y"),
        (
            changed(lambda r: setattr(r.parameters["timeout"], "string_param", "soon"), typed(1)),
            "parameters.timeout",
            "microseconds",
        ),
    ],
)
async def test_a_bad_request_is_an_invalid_argument_that_names_its_field(
    channel: grpc.aio.Channel, request_: pb.ModelInferRequest, field: str, words: str
) -> None:
    error = await failure(channel, request_)
    assert isinstance(error, InvalidArgument)
    assert (error.field, words in error.remedy) == (field, True), error


async def test_what_is_not_there_is_not_found_or_unimplemented(channel: grpc.aio.Channel) -> None:
    error = await failure(channel, typed(1, model="nope"))
    assert isinstance(error, ModelNotFound)
    assert "line@2" in error.metadata["models"]
    error = await failure(channel, typed(1, model="words"))
    assert isinstance(error, Unimplemented)
    assert error.metadata == {
        "model": "words@1",
        "methods": "Embed",
        "service": "meshwork.nlp.v1.NlpService",
    }


async def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        await call(b"\xff\xff\xff", timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_above_the_limit_is_refused(target: Target, channel: grpc.aio.Channel) -> None:
    request = typed(1)
    request.raw_input_contents.append(bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(grpc.RpcError) as caught:
        await infer(channel)(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status, body, _ = rest(target, "POST", "/v2/models/line/infer", bytes(MAX_MESSAGE_BYTES + 1))
    assert status == 413
    assert str(MAX_MESSAGE_BYTES) in body["error"]


GOOD = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


async def test_json_in_json_out(target: Target) -> None:
    status, body, headers = rest(target, "POST", "/v2/models/line/infer", {"id": "a", "inputs": [GOOD]})
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    assert (body["id"], body["model_name"], body["model_version"]) == ("a", "line", "2")
    assert body["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 5.0]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body: should be an object, not list"),
        ({}, "inputs: is missing"),
        ({"inputs": [1]}, "inputs[0]: should be an object, not int"),
        ({"inputs": [{**GOOD, "shape": [1, "2"]}]}, "inputs[0].shape: should be whole numbers"),
        ({"inputs": [{**GOOD, "shape": [2, 2]}]}, "inputs[0].data: should hold 4 elements"),
        ({"inputs": [{**GOOD, "data": [1, "2"]}]}, "inputs[0].data: should hold numbers"),
        ({"inputs": [{**GOOD, "datatype": "FP64"}]}, "inputs[0].datatype: 'x' should be FP32"),
        ({"inputs": [{**GOOD, "name": None}]}, "inputs[0].name: is missing"),
        ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "outputs[0].name: the model gives no 'z'"),
        (
            {"inputs": [{**GOOD, "parameters": {"binary_data_size": 8}}]},
            "inputs[0].parameters.binary_data_size: should be from 0 to the 0 bytes",
        ),
    ],
)
async def test_a_bad_body_is_answered_with_400_and_an_error_that_names_its_field(
    target: Target, body: Any, words: str
) -> None:
    status, answer, _ = rest(target, "POST", "/v2/models/line/infer", body)
    assert status == 400, answer
    assert words in answer["error"]
    assert answer["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "x"])
async def test_a_wrong_length_of_the_json_is_refused(target: Target, length: str) -> None:
    status, answer, _ = rest(
        target,
        "POST",
        "/v2/models/line/infer",
        {"inputs": [GOOD]},
        Inference_Header_Content_Length=length,
    )
    assert status == 400
    assert "Inference-Header-Content-Length: should be the length" in answer["error"]


async def test_bytes_that_belong_to_no_input_are_refused(target: Target) -> None:
    body = json.dumps({"inputs": [GOOD]}).encode()
    status, answer, _ = rest(
        target,
        "POST",
        "/v2/models/line/infer",
        body + b"123",
        Inference_Header_Content_Length=str(len(body)),
    )
    assert (status, "3 bytes behind the JSON" in answer["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nope/infer", 404),
        ("GET", "/v2/models/line/versions/9", 404),
        ("GET", "/v2/models/line/versions/9/ready", 404),
        ("GET", "/v2/models/line/nothing", 404),
        ("GET", "/v2/models/line/infer", 405),
        ("POST", "/v2/models/words/infer", 501),
    ],
)
async def test_what_is_not_there_has_its_status_and_an_error(
    target: Target, method: str, path: str, status: int
) -> None:
    body = {"inputs": [GOOD]} if method == "POST" else None
    got, answer, _ = rest(target, method, path, body)
    assert got == status, answer
    assert answer["error"]


async def test_a_name_that_two_services_have_is_the_first_ones_unless_the_service_is_said(
    targets: Targets,
) -> None:
    gateway = targets["gateway"]
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        for model, version, service in [
            ("line", "", "nlp"),
            ("nlp/line", "", "nlp"),
            ("vision/line", "", "vision"),
            ("vision/line", "3", "vision"),
            ("line", "3", "vision"),
            ("line@1", "", "nlp"),
        ]:
            request = typed(1, model=model)
            request.model_version = version
            answer = await infer(channel)(request, timeout=TIMEOUT_S)
            assert answer.parameters["replica"].string_param == service, (model, version)
    for path, service in {"line": "nlp", "vision/line": "vision", "line/versions/3": "vision"}.items():
        _, body, _ = rest(gateway, "POST", f"/v2/models/{path}/infer", {"inputs": [GOOD]})
        assert body["parameters"]["replica"] == service, path
    _, index, _ = rest(gateway, "POST", "/v2/repository/index", {"ready": True})
    names = {(model["name"], model["version"]) for model in index}
    assert names >= {("line", "1"), ("line", "2"), ("vision/line", "3"), ("vision/mirror", "1")}


async def test_health_and_what_the_server_is_are_answered_in_rest(target: Target) -> None:
    assert rest(target, "GET", "/v2/health/live")[:2] == (200, {"live": True})
    assert rest(target, "GET", "/v2/health/ready")[:2] == (200, {"ready": True})
    status, body, _ = rest(target, "GET", "/v2")
    assert (status, body["name"]) == (200, "meshwork")


async def test_models_are_unloaded_and_loaded(target: Target, channel: grpc.aio.Channel) -> None:
    def method(name: str) -> Callable[..., Any]:
        request = getattr(pb, f"Repository{name}Request")
        response = getattr(pb, f"Repository{name}Response")
        return channel.unary_unary(  # type: ignore[no-any-return]
            f"/{SERVICE}/Repository{name}", request.SerializeToString, response.FromString
        )

    async def state() -> str:
        index = await method("Index")(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S)
        return str(next(each.state for each in index.models if each.name == "words"))

    await method("ModelUnload")(pb.RepositoryModelUnloadRequest(model_name="words"), timeout=TIMEOUT_S)
    assert await state() == "UNAVAILABLE"
    await method("ModelLoad")(pb.RepositoryModelLoadRequest(model_name="words"), timeout=TIMEOUT_S)
    assert await state() == "READY"
    assert rest(target, "POST", "/v2/repository/models/words/unload", {})[0] == 200
    assert await state() == "UNAVAILABLE"
    assert rest(target, "POST", "/v2/repository/models/words/load", {})[0] == 200
    assert await state() == "READY"
    assert rest(target, "POST", "/v2/repository/models/nope/load", {})[0] == 404


async def test_a_stream_whose_caller_leaves_takes_its_work_out_of_the_queue(
    channel: grpc.aio.Channel,
) -> None:
    stream = channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelInferResponse.FromString,
    )
    # Of different shapes, so that each holds the device by itself: far more than the next call waits.
    requests = [typed(1000, *range(columns)) for columns in range(60)]
    call = stream(iter(requests), timeout=60)
    await call.read()
    call.cancel()
    assert (await infer(channel)(typed(1), timeout=5)).model_name == "line"

"""What Triton's own clients must get from us. Run in their environment (see `environment.py`):

    python triton_checks.py GRPC_ADDRESS HTTP_ADDRESS

Each function is a claim; a JSON line for each says how it ended. Nothing of ours is imported here.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import json
import queue
import random
import sys
import traceback
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

GRPC, HTTP = sys.argv[1:3] if len(sys.argv) > 2 else ("", "")
NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": ml_dtypes.bfloat16,
    "BYTES": np.object_,
}


def arrays() -> dict[str, np.ndarray]:
    """An array [3, 2] of each datatype, with its extremes."""
    made: dict[str, np.ndarray] = {}
    for name, dtype in NUMPY.items():
        if name == "BYTES":
            made[name] = np.array([[b"", b"\x00\xff"], ["é".encode(), b"b" * 300], [b"c", b"d"]], np.object_)
        elif name == "BOOL":
            made[name] = np.array([[True, False], [False, False], [True, True]])
        elif np.dtype(dtype).kind in "iu":
            bounds = np.iinfo(dtype)
            made[name] = np.array([[bounds.min, bounds.max], [0, 1], [7, 8]], dtype)
        else:
            made[name] = np.array([[-1.5, 1e4], [0.0, 2.0**-10], [3.25, -0.0]], dtype)
    return made


def given(module: Any, name: str, array: np.ndarray, **how: Any) -> Any:
    tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, **how)
    return tensor


def line(module: Any, *values: float, **how: Any) -> list[Any]:
    return [given(module, "x", np.array([values], np.float32), **how)]


def refused(call: Any, *arguments: Any, **named: Any) -> InferenceServerException:
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        return error
    raise AssertionError("it was not refused")


def grpc_health_and_metadata_say_what_there_is() -> None:
    with triton.InferenceServerClient(GRPC) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("line")
        assert client.is_model_ready("line", "1")
        assert not client.is_model_ready("line", "9")
        assert not client.is_model_ready("nope")
        assert client.get_server_metadata().name == "meshwork"
        metadata = client.get_model_metadata("line")
        assert list(metadata.versions) == ["1", "2"]
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, -1])]
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
            ("y", "FP32", [-1, -1]),
            ("rows", "INT64", [-1, 1]),
        ]
        config = client.get_model_config("mirror", as_json=True)["config"]
        assert config["max_batch_size"] == 256
        types = {each["name"]: each["data_type"] for each in config["input"]}
        assert types["in_BF16"] == "TYPE_BF16"
        assert types["in_BYTES"] == "TYPE_STRING"
        index = client.get_model_repository_index()
        ready = {(each.name, each.version) for each in index.models if each.state == "READY"}
        assert ready >= {("line", "1"), ("line", "2"), ("mirror", "1"), ("words", "1")}


def http_health_and_metadata_say_what_there_is() -> None:
    with triton_http.InferenceServerClient(HTTP) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("line")
        assert client.is_model_ready("line", "1")
        assert not client.is_model_ready("line", "9")
        assert not client.is_model_ready("nope")
        assert client.get_server_metadata()["name"] == "meshwork"
        metadata = client.get_model_metadata("line")
        assert metadata["versions"] == ["1", "2"]
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
        assert client.get_model_config("line")["max_batch_size"] == 256
        index = client.get_model_repository_index()
        ready = {(each["name"], each["version"]) for each in index if each["state"] == "READY"}
        assert ready >= {("line", "1"), ("line", "2"), ("mirror", "1"), ("words", "1")}


def grpc_gives_every_datatype_back_as_it_came() -> None:
    sent = arrays()
    with triton.InferenceServerClient(GRPC) as client:
        result = client.infer("mirror", [given(triton, f"in_{name}", array) for name, array in sent.items()])
        for name, array in sent.items():
            back = result.as_numpy(f"out_{name}")
            assert back.dtype == array.dtype, name
            assert back.tobytes() == array.tobytes() if name != "BYTES" else (back == array).all(), name


def http_gives_every_datatype_back_as_it_came_in_binary() -> None:
    sent = arrays()
    with triton_http.InferenceServerClient(HTTP) as client:
        inputs = [given(triton_http, f"in_{name}", array) for name, array in sent.items()]
        result = client.infer("mirror", inputs)
        for name, array in sent.items():
            back = result.as_numpy(f"out_{name}")
            assert back.dtype == array.dtype, name
            assert back.tobytes() == array.tobytes() if name != "BYTES" else (back == array).all(), name


def http_gives_datatypes_back_as_they_came_in_json() -> None:
    sent = arrays()
    sent["BYTES"] = np.array([["a", "é"], ["", "\n"], ["x", "y"]], np.object_)
    binary = {"FP16", "BF16"}  # the client sends these in binary only
    with triton_http.InferenceServerClient(HTTP) as client:
        inputs = [
            given(triton_http, f"in_{name}", array, binary_data=name in binary)
            for name, array in sent.items()
        ]
        outputs = [
            triton_http.InferRequestedOutput(f"out_{name}", binary_data=name in binary) for name in sent
        ]
        result = client.infer("mirror", inputs, outputs=outputs)
        for name, array in sent.items():
            back = result.as_numpy(f"out_{name}")
            assert (back == array).all(), name


def a_network_from_an_onnx_file_gives_what_numpy_gives() -> None:
    x = np.random.default_rng(7).normal(size=(5, 64)).astype(np.float32)
    weights = (np.add.outer(np.arange(64), np.arange(8)) / 64).astype(np.float32)
    with triton.InferenceServerClient(GRPC) as client:
        y = client.infer("product", [given(triton, "x", x)]).as_numpy("y")
        assert np.abs(y - x @ weights).max() < 1e-4
    with triton_http.InferenceServerClient(HTTP) as client:
        y = client.infer("product", [given(triton_http, "x", x)]).as_numpy("y")
        assert np.abs(y - x @ weights).max() < 1e-4


def outputs_come_as_asked_for_and_the_request_id_comes_back() -> None:
    with triton.InferenceServerClient(GRPC) as client:
        wanted = [triton.InferRequestedOutput("rows"), triton.InferRequestedOutput("y")]
        result = client.infer(
            "line", line(triton, 1, 2), model_version="1", outputs=wanted, request_id="seven"
        )
        response = result.get_response()
        assert [output.name for output in response.outputs] == ["rows", "y"]
        assert (response.id, response.model_name, response.model_version) == ("seven", "line", "1")
        assert result.as_numpy("y").tolist() == [[3, 5]]
        assert response.parameters["replica"].string_param
    with triton_http.InferenceServerClient(HTTP) as client:
        result = client.infer("line", line(triton_http, 1, 2), request_id="eight")
        response = result.get_response()
        assert (response["id"], response["model_name"], response["model_version"]) == ("eight", "line", "2")
        assert result.as_numpy("y").tolist() == [[3, 5]]


def compressed_grpc_is_answered_by_a_replica_and_refused_by_the_gateway_in_words() -> None:
    x = np.zeros((1, 10_000), np.float32)
    with triton.InferenceServerClient(GRPC) as client:
        if GRPC == HTTP:
            error = refused(client.infer, "line", [given(triton, "x", x)], compression_algorithm="gzip")
            assert error.status() == "StatusCode.UNIMPLEMENTED"
            assert "send the request without compression" in error.message()
            return
        result = client.infer("line", [given(triton, "x", x)], compression_algorithm="gzip")
        assert (result.as_numpy("y") == 1).all()


def compressed_rest_is_answered() -> None:
    x = np.zeros((1, 10_000), np.float32)
    with triton_http.InferenceServerClient(HTTP) as client:
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                "line",
                [given(triton_http, "x", x)],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            assert (result.as_numpy("y") == 1).all()


def ten_megabytes_pass() -> None:
    x = np.arange(2_500_000, dtype=np.float32).reshape(10, -1)
    with triton.InferenceServerClient(GRPC) as client:
        assert (client.infer("line", [given(triton, "x", x)]).as_numpy("y") == 2 * x + 1).all()
    with triton_http.InferenceServerClient(HTTP) as client:
        assert (client.infer("line", [given(triton_http, "x", x)]).as_numpy("y") == 2 * x + 1).all()


def grpc_refusals_have_a_code_and_say_what_would_be_right() -> None:
    with triton.InferenceServerClient(GRPC) as client:
        error = refused(client.infer, "nope", line(triton, 1))
        assert error.status() == "StatusCode.NOT_FOUND"
        assert "line@1" in error.message()
        error = refused(client.infer, "line", line(triton, 1), model_version="9")
        assert error.status() == "StatusCode.NOT_FOUND"
        error = refused(client.infer, "", line(triton, 1))
        assert error.status() == "StatusCode.INVALID_ARGUMENT"
        error = refused(client.infer, "words", line(triton, 1))
        assert error.status() == "StatusCode.UNIMPLEMENTED"
        assert "Embed of meshwork.nlp.v1.NlpService" in error.message()
        for tensor, words in {
            given(triton, "z", np.zeros((1, 2), np.float32)): "takes no 'z'; it takes x (FP32 [-1, -1])",
            given(triton, "x", np.zeros((1, 2), np.float64)): "'x' should be FP32, not 'FP64'",
            given(triton, "x", np.zeros((2,), np.float32)): "'x' should be of shape [-1, -1], not [2]",
            given(triton, "x", np.zeros((0, 2), np.float32)): "'x' should be of shape [-1, -1], not [0, 2]",
            given(triton, "x", np.full((1, 2), -1, np.float32)): "should not hold -1",
        }.items():
            error = refused(client.infer, "line", [tensor])
            assert error.status() == "StatusCode.INVALID_ARGUMENT", error
            assert words in error.message(), error
        error = refused(client.infer, "mirror", [given(triton, "in_FP32", np.zeros((1, 2), np.float32))])
        assert "lacks in_BOOL" in error.message()
        error = refused(client.infer, "line", line(triton, 1), outputs=[triton.InferRequestedOutput("z")])
        assert "outputs[0].name: the model gives no 'z'; it gives y, rows" in error.message()
        shared = triton.InferInput("x", [1, 2], "FP32").set_shared_memory("region", 8)
        assert refused(client.infer, "line", [shared]).status() == "StatusCode.UNIMPLEMENTED"
        error = refused(client.infer, "line", line(triton, 1000), timeout=1)
        assert error.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED")


def http_refusals_have_a_status_and_say_what_would_be_right() -> None:
    with triton_http.InferenceServerClient(HTTP) as client:
        error = refused(client.infer, "nope", line(triton_http, 1))
        assert error.status() == "404"
        assert "line" in error.message()
        assert refused(client.infer, "line", line(triton_http, 1), model_version="9").status() == "404"
        error = refused(client.infer, "words", line(triton_http, 1))
        assert error.status() == "501"
        assert "Embed of meshwork.nlp.v1.NlpService" in error.message()
        for tensor, words in {
            given(triton_http, "z", np.zeros((1, 2), np.float32)): "takes no 'z'",
            given(triton_http, "x", np.zeros((1, 2), np.float64)): "'x' should be FP32, not 'FP64'",
            given(triton_http, "x", np.zeros((2,), np.float32)): "'x' should be of shape [-1, -1], not [2]",
            given(triton_http, "x", np.full((1, 2), -1, np.float32)): "should not hold -1",
        }.items():
            error = refused(client.infer, "line", [tensor])
            assert error.status() == "400", error
            assert words in error.message(), error
        wanted = [triton_http.InferRequestedOutput("y", class_count=2)]
        error = refused(client.infer, "line", line(triton_http, 1), outputs=wanted)
        assert error.status() == "501"
        error = refused(client.infer, "line", line(triton_http, 1000), timeout=1)
        assert error.status() in ("504", "429")


def a_stream_is_answered_in_order_and_outlives_a_bad_request() -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(GRPC) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(40):
            name = "z" if number == 20 else "x"
            inputs = [given(triton, name, np.array([[number]], np.float32))]
            client.async_stream_infer("line", inputs, request_id=str(number))
        for number in range(40):
            result, error = answers.get(timeout=20)
            if number == 20:
                assert "takes no 'z'" in error.message()
                continue
            assert error is None, error
            response = result.get_response()
            assert response.id == str(number)
            assert response.parameters["triton_final_response"].bool_param
            assert result.as_numpy("y").tolist() == [[2 * number + 1]]
        client.stop_stream()


def a_strict_stream_ends_with_the_status_of_its_bad_request() -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(GRPC) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), headers={"triton_grpc_error": "true"}
        )
        client.async_stream_infer("line", line(triton, 1))
        assert answers.get(timeout=20)[0].as_numpy("y").tolist() == [[3]]
        client.async_stream_infer("line", [given(triton, "z", np.zeros((1, 1), np.float32))])
        assert answers.get(timeout=20)[1].status() == "StatusCode.INVALID_ARGUMENT"
        client.stop_stream()


def models_are_called_by_their_service_too() -> None:
    with triton.InferenceServerClient(GRPC) as client:
        assert client.infer("nlp/line", line(triton, 1)).as_numpy("y").tolist() == [[3]]
    with triton_http.InferenceServerClient(HTTP) as client:
        assert client.infer("nlp/line", line(triton_http, 1)).as_numpy("y").tolist() == [[3]]
        assert client.is_model_ready("nlp/line", "2")


def statistics_count_the_requests() -> None:
    with triton.InferenceServerClient(GRPC) as client:
        before = client.get_inference_statistics("line", "1").model_stats[0]
        x = np.zeros((5, 1), np.float32)
        client.infer("line", [given(triton, "x", x)], model_version="1")
        refused(client.infer, "line", [given(triton, "z", x)], model_version="1")
        after = client.get_inference_statistics("line", "1").model_stats[0]
        assert after.inference_count - before.inference_count == 5
        assert after.inference_stats.success.count - before.inference_stats.success.count == 1
        assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
        assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    with triton_http.InferenceServerClient(HTTP) as client:
        (stats,) = client.get_inference_statistics("line", "1")["model_stats"]
        assert stats["inference_count"] == after.inference_count


def each_of_a_thousand_answers_is_its_callers_own() -> None:
    """Over unary calls, a stream and REST at once, of random sizes, the bad among the good."""
    chance = random.Random(7)

    def request(module: Any, number: int) -> tuple[np.ndarray, Any]:
        x = np.full((chance.randint(1, 4), chance.choice([1, 2, 3])), number, np.float32)
        name = "z" if number % 50 == 3 else "x"
        return x, [given(module, name, x)]

    def own(result: Any, x: np.ndarray) -> None:
        y = result.as_numpy("y")
        assert y.shape == x.shape
        assert (y == 2 * x + 1).all()

    async def unary(client: Any, module: Any, number: int) -> bool:
        x, inputs = request(module, number)
        try:
            own(await client.infer("line", inputs), x)
        except InferenceServerException:
            if number % 50 != 3:
                raise
            return False
        return True

    async def stream(client: triton_aio.InferenceServerClient, numbers: range) -> list[bool]:
        sent = {str(number): request(triton, number) for number in numbers}

        async def requests() -> Any:
            for number, (_, inputs) in sent.items():
                yield {"model_name": "line", "inputs": inputs, "request_id": number}

        outcomes: list[bool] = []
        waiting = iter(sent)
        async for result, error in client.stream_infer(requests()):
            number = next(waiting)
            if error is None:
                assert result.get_response().id == number
                own(result, sent[number][0])
            outcomes.append(error is None)
        return outcomes

    async def all_of_them() -> list[bool]:
        async with (
            triton_aio.InferenceServerClient(GRPC) as grpc_client,
            triton_http_aio.InferenceServerClient(HTTP, conn_limit=16) as http_client,
        ):
            parts = await asyncio.gather(
                *(unary(grpc_client, triton_aio, number) for number in range(500)),
                *(unary(http_client, triton_http_aio, number) for number in range(500, 700)),
                stream(grpc_client, range(700, 1000)),
            )
        *single, streamed = parts
        return [*single, *streamed]

    outcomes = asyncio.run(all_of_them())
    assert [number for number, good in enumerate(outcomes) if not good] == list(range(3, 1000, 50))


def main() -> None:
    for name, check in list(globals().items()):
        if not callable(check) or getattr(check, "__module__", "") != "__main__":
            continue
        if name in ("arrays", "given", "line", "refused", "main"):
            continue
        try:
            check()
        except BaseException:
            print(json.dumps([name, traceback.format_exc()]), flush=True)
        else:
            print(json.dumps([name, ""]), flush=True)


if __name__ == "__main__":
    main()

"""The protocol in REST: paths under /v2, JSON or binary tensors, errors as `{"error": ...}`."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from aiohttp import web

from meshwork.errors import InvalidArgument, MeshworkError, NotFound, TooLarge
from meshwork.rpc import Observer, as_meshwork_error
from meshwork.serving.call import Call
from meshwork.serving.load import ORCA_TRAILER
from meshwork.serving.oip.inference import Inference, within
from meshwork.serving.oip.repository import no_new_configuration, server_metadata
from meshwork.serving.oip.rest_body import LENGTH_HEADER, Body
from meshwork.serving.scrape import metrics

_LARGE = 64 * 1024  # bytes of JSON that the event loop may be kept busy with

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Context:
    """An HTTP request as the context of a call; its deadline stands in the body."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    def time_remaining(self) -> float | None:
        """None."""
        return None

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The headers."""
        return tuple((name.lower(), value) for name, value in self._request.headers.items())

    def peer(self) -> str:
        """The other end's address."""
        return f"http:{self._request.remote}:0"


class RestService:
    """The application's handlers.

    Args:
        service: the replica's service: `SERVICE/MODEL` is a name of its model too.
        inference: answers.
        max_message_bytes: the largest body.
        observer: is told of each inference.
    """

    def __init__(
        self, service: str, inference: Inference, max_message_bytes: int, observer: Observer
    ) -> None:
        self._service = service
        self._inference = inference
        self._max_bytes = max_message_bytes
        self._observer = observer

    def application(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=self._max_bytes)
        app.add_routes(
            [
                web.get("/metrics", metrics),
                web.get("/v2", self._server),
                web.get("/v2/health/live", self._live),
                web.get("/v2/health/ready", self._ready),
                web.get("/v2/models/stats", self._statistics),
                web.post("/v2/repository/index", self._index),
                web.post("/v2/repository/models/{name}/{action:load|unload}", self._load_or_unload),
            ]
        )
        for prefix in (f"/v2/models/{self._service}", "/v2/models"):
            for model in (f"{prefix}/{{name}}", f"{prefix}/{{name}}/versions/{{version}}"):
                app.add_routes(
                    [
                        web.get(model, self._metadata),
                        web.get(f"{model}/ready", self._model_ready),
                        web.get(f"{model}/config", self._configuration),
                        web.get(f"{model}/stats", self._statistics),
                        web.post(f"{model}/infer", self._infer),
                    ]
                )
        return app

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            error: MeshworkError = TooLarge(
                f"the body is larger than the {self._max_bytes} bytes that this mesh takes",
                metadata={"limit_bytes": str(self._max_bytes)},
            )
        except web.HTTPMethodNotAllowed as refused:
            allowed = ", ".join(sorted(refused.allowed_methods))
            return _json({"error": f"{request.path} takes {allowed}, not {request.method}"}, 405)
        except web.HTTPException as refused:
            if refused.status != 404:
                return _json({"error": refused.reason}, refused.status)
            error = NotFound(f"there is no {request.path}; GET /v2 says what there is")
        except Exception as cause:
            error = as_meshwork_error(cause, f"{request.method} {request.path}")
        status = 413 if isinstance(error, TooLarge) else _STATUS.get(error.code, 500)
        response = _json({"error": str(error), "code": error.code.name, "reason": error.reason}, status)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        return response

    def _model(self, request: web.Request) -> str:
        version = request.match_info.get("version", "")
        return self._inference.name(request.match_info["name"], version, field="model")

    async def _server(self, request: web.Request) -> web.Response:
        return _json(server_metadata())

    async def _live(self, request: web.Request) -> web.Response:
        return _json({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._inference.ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, request: web.Request) -> web.Response:
        model = self._model(request)
        ready = self._inference.model_ready(model)
        if not ready:
            return _json({"error": f"{model} is not ready", "ready": False}, 404)
        return _json({"name": model.partition("@")[0], "ready": True})

    async def _metadata(self, request: web.Request) -> web.Response:
        return _json(await self._inference.metadata(self._model(request), _call(request)))

    async def _configuration(self, request: web.Request) -> web.Response:
        return _json(await self._inference.configuration(self._model(request), _call(request)))

    async def _statistics(self, request: web.Request) -> web.Response:
        model = self._model(request) if "name" in request.match_info else ""
        return _json({"model_stats": self._inference.statistics(model)})

    async def _index(self, request: web.Request) -> web.Response:
        body = await _object(request)
        return _json(self._inference.index(ready=bool(body.get("ready", False))))

    async def _load_or_unload(self, request: web.Request) -> web.Response:
        model = self._model(request)
        if request.match_info["action"] == "unload":
            await self._inference.unload(model)
        elif (await _object(request)).get("parameters"):
            raise no_new_configuration("parameters")
        else:
            await self._inference.load(model)
        return _json({})

    async def _infer(self, request: web.Request) -> web.Response:
        began = time.perf_counter()
        self._observer.begins()
        code = grpc.StatusCode.INTERNAL
        try:
            response = await self._inferred(request)
            code = grpc.StatusCode.OK
        except MeshworkError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            # The same as the rpc's: the protocol has two forms.
            self._observer.ends("ModelInfer", code, time.perf_counter() - began)
        # What Envoy balances by; gRPC's answers carry it in their trailer.
        for name, value in self._observer.trailer():
            if name == ORCA_TRAILER and isinstance(value, bytes):
                response.headers[name] = base64.b64encode(value).decode()
        return response

    async def _inferred(self, request: web.Request) -> web.Response:
        model = self._model(request)
        raw = await request.read()
        length = request.headers.get(LENGTH_HEADER)
        large = len(raw) > _LARGE
        body = await asyncio.to_thread(Body.read, raw, length) if large else Body.read(raw, length)
        call = within(_call(request), body.timeout)
        answer = await self._inference.infer(model, body.given(), tuple(body.outputs), call, large=large)
        served = answer.served_by
        given = (served.model, served.version, answer.outputs, answer.parameters())
        big = sum(array.nbytes for array in answer.outputs.values()) > _LARGE
        content, head = await asyncio.to_thread(body.respond, *given) if big else body.respond(*given)
        if head is None:
            return web.Response(body=content, content_type="application/json")
        headers = {LENGTH_HEADER: str(head)}
        return web.Response(body=content, content_type="application/octet-stream", headers=headers)


def _call(request: web.Request) -> Call:
    return Call.of(_Context(request))


def _json(content: Any, status: int = 200) -> web.Response:
    return web.json_response(content, status=status)


async def _object(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        content = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body is not JSON: {error}", reason="MALFORMED_MESSAGE") from None
    if not isinstance(content, dict):
        raise InvalidArgument("the body should be an object", reason="MALFORMED_MESSAGE")
    return content

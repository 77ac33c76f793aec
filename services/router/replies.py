"""What callers read when Envoy itself ends a call: the same errors that services send.

gRPC callers get a status with a message that says what to do, REST callers a google.rpc.Status as
JSON. Envoy's own words are kept where they say something. Where calls are traced they get the caller's
`traceparent`, or the id that the gateway gave the request (its span has it as `guid:x-request-id`):
gRPC callers as the header `meshwork-trace`, REST callers as a RequestInfo. Envoy's own `%TRACE_ID%` is
empty in such replies.
"""

from __future__ import annotations

import base64

from meshwork.errors import DETAILS_KEY, TooLarge
from meshwork.names import TRACE_HEADER
from meshwork.xds.messages import Values, packed

# HTTP status of Envoy's reply -> canonical code, for REST callers.
_CODES = {400: 3, 404: 5, 408: 4, 429: 8, 500: 13, 503: 14, 504: 4}
_WORDS = "%LOCAL_REPLY_BODY%"
_TRACE = "%REQ(TRACEPARENT?X-REQUEST-ID)%"
_UNREACHABLE = "no replica of %ROUTE_NAME% can be reached right now, try again: %LOCAL_REPLY_BODY%"
# The filter that reads a message's `model` reads none that is compressed.
_COMPRESSED = "the gateway reads which model a request is for; send the request without compression"


def _status_is(code: int) -> Values:
    value = {"default_value": code, "runtime_key": f"meshwork.reply.{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _details_hold(text: str) -> Values:
    expression = packed(
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        {"expression": f"response.code_details.contains('{text}')"},
    )
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": expression,
        }
    }


def _all(*filters: Values) -> Values:
    return {"and_filter": {"filters": list(filters)}}


def _any(*filters: Values) -> Values:
    return {"or_filter": {"filters": list(filters)}}


def _is_rest() -> Values:
    """A request that is no gRPC, or was none until the transcoder made one of it."""
    transcoded = {"name": "x-envoy-original-method", "present_match": True}
    other = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    return _any({"header_filter": {"header": transcoded}}, {"header_filter": {"header": other}})


def _header(name: str, value: str) -> Values:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _is_v2() -> Values:
    """A request of the Open Inference Protocol's REST form, whose errors have a shape of their own."""
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": "/v2([/?].*)?"}}}
    return {"header_filter": {"header": path}}


def _rest(filters: Values, status: int, code: int, text: str, facts: Values) -> list[Values]:
    """How REST callers read a reply of `status`: the one or the other shape; `facts` are our own's."""
    return [
        {
            "filter": _all(filters, _is_rest(), *own),
            "status_code": status,
            "body_format_override": {"json_format": shape, "content_type": "application/json"},
        }
        for own, shape in (
            ((_is_v2(),), {"error": text}),
            ((), {"code": code, "message": text, **facts}),
        )
    ]


def local_replies(max_message_bytes: int, *, traced: bool = False) -> Values:
    """How Envoy's own replies read, where requests may have `max_message_bytes`: a LocalReplyConfig."""
    traces = [_header(TRACE_HEADER, _TRACE)] if traced else []
    request = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": _TRACE}
    facts: Values = {"details": [request]} if traced else {}
    error = TooLarge(
        f"the message is larger than the {max_message_bytes} bytes that this mesh takes",
        metadata={"limit_bytes": str(max_message_bytes)},
    )
    details = base64.b64encode(error.status().SerializeToString()).decode().rstrip("=")
    # The filter that holds a message until it has its `model` refuses one that it can't hold.
    too_large = _any(_status_is(413), _details_hold("FAILED_PRECONDITION{REQUEST_BUFFER"))
    for_grpc = [
        _header("grpc-status", "8"),
        _header("grpc-message", str(error)),
        _header(DETAILS_KEY, details),
        *traces,
    ]
    plain = {"string_match": {"exact": "identity"}, "invert_match": True}
    compressed = {"header_filter": {"header": {"name": "grpc-encoding", **plain}}}
    mappers: list[Values] = [
        {
            "filter": _all(compressed, _details_hold("INVALID_ARGUMENT{")),
            "body": {"inline_string": _COMPRESSED},
            "headers_to_add": [
                _header("grpc-status", "12"),
                _header("grpc-message", _COMPRESSED),
                *traces,
            ],
        },
        *_rest(too_large, 413, 8, str(error), facts),
        {"filter": too_large, "body": {"inline_string": str(error)}, "headers_to_add": for_grpc},
    ]
    for status, code in _CODES.items():
        words = _UNREACHABLE if status == 503 else _WORDS
        mappers += _rest(_status_is(status), status, code, words, facts)
    unreachable = {"text_format_source": {"inline_string": _UNREACHABLE}}
    mappers.append({"filter": _status_is(503), "body_format_override": unreachable, "headers_to_add": traces})
    if traced:
        value = {"default_value": 0, "runtime_key": "meshwork.reply.any"}
        others = {"status_code_filter": {"comparison": {"op": "GE", "value": value}}}
        mappers.append({"filter": others, "headers_to_add": traces})
    return {"mappers": mappers}

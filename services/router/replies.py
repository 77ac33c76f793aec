"""What callers read when Envoy itself ends a call: the same errors that services send.

gRPC callers get a status with a message that says what to do, REST callers a google.rpc.Status as
JSON. Envoy's own words are kept where they say something.
"""

from __future__ import annotations

import base64

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    RuntimeUInt32,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from meshwork.errors import DETAILS_KEY, TooLarge

# HTTP status of Envoy's reply -> canonical code, for REST callers.
_CODES = {400: 3, 404: 5, 408: 4, 429: 8, 500: 13, 503: 14, 504: 4}
_WORDS = "%LOCAL_REPLY_BODY%"
_UNREACHABLE = "no replica of %ROUTE_NAME% can be reached right now, try again: %LOCAL_REPLY_BODY%"


def _status_is(code: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key=f"meshwork.reply.{code}")
    comparison = ComparisonFilter(op=ComparisonFilterOp.EQ, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


def _details_hold(text: str) -> AccessLogFilter:
    expression = ExpressionFilter(expression=f"response.code_details.contains('{text}')")
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=Any.pack(expression)
        )
    )


def _all(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def _any(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(or_filter=OrFilter(filters=list(filters)))


def _is_rest() -> AccessLogFilter:
    """A request that is no gRPC, or was none until the transcoder made one of it."""
    transcoded = HeaderMatcher(name="x-envoy-original-method", present_match=True)
    other = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    return _any(
        AccessLogFilter(header_filter=HeaderFilter(header=transcoded)),
        AccessLogFilter(header_filter=HeaderFilter(header=other)),
    )


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _text(text: str) -> SubstitutionFormatString:
    return SubstitutionFormatString(text_format_source=DataSource(inline_string=text))


def _json(code: int, text: str) -> SubstitutionFormatString:
    from envoy_data_plane.google.protobuf import Struct, Value

    fields = {"code": Value(number_value=code), "message": Value(string_value=text)}
    return SubstitutionFormatString(json_format=Struct(fields=fields), content_type="application/json")


def local_replies(max_message_bytes: int) -> LocalReplyConfig:
    """How Envoy's own replies read, where requests may have `max_message_bytes`."""
    error = TooLarge(
        f"the message is larger than the {max_message_bytes} bytes that this mesh takes",
        metadata={"limit_bytes": str(max_message_bytes)},
    )
    details = base64.b64encode(error.status().SerializeToString()).decode().rstrip("=")
    # The filter that holds a message until it has its `model` refuses one that it can't hold.
    too_large = _any(_status_is(413), _details_hold("FAILED_PRECONDITION{REQUEST_BUFFER"))
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(
                filter=_all(too_large, _is_rest()),
                status_code=413,
                body_format_override=_json(8, str(error)),
            ),
            ResponseMapper(
                filter=too_large,
                body=DataSource(inline_string=str(error)),
                headers_to_add=[
                    _header("grpc-status", "8"),
                    _header("grpc-message", str(error)),
                    _header(DETAILS_KEY, details),
                ],
            ),
            *(
                ResponseMapper(
                    filter=_all(_status_is(status), _is_rest()),
                    body_format_override=_json(code, _UNREACHABLE if status == 503 else _WORDS),
                )
                for status, code in _CODES.items()
            ),
            ResponseMapper(filter=_status_is(503), body_format_override=_text(_UNREACHABLE)),
        ],
    )

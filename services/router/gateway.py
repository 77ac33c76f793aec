"""The gateway's listener: gRPC, gRPC-Web and REST/JSON on one port, routed by the model in the body.

Filters in order: CORS; Lua, which ends early what is too large or would break a connection;
gRPC-Web to gRPC; REST to gRPC by `google.api.http`; extraction of the request's `model` field into
metadata, or a buffer where no model need be known; Lua, which looks up the model's cluster
(`lookup.py`); the router.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshwork.serving.oip.repository import FULL_NAME, REST_SERVICE
from meshwork.xds.messages import Values, encode, packed
from meshwork.xds.resources import FROM_ADS, socket_address
from meshwork.xds.routes import MODEL_FILTER, connection_manager, router_filter
from meshwork.xds.snapshot import Resource
from services.router.contract import MODEL_FIELD, Method, Service
from services.router.inference_routes import MODEL_FIELDS
from services.router.planner import GATEWAY
from services.router.replies import local_replies

_HTTP = "envoy.extensions.filters.http"


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """How the gateway listens.

    Attributes:
        listen: `host:port`.
        max_message_bytes: the largest request message; a larger one is RESOURCE_EXHAUSTED.
        cors_origins: regular expression of the origins whose web pages may call; the default lets
            pages that this machine serves.
        hash_fields: by service, the fields of requests that choose a replica, with their headers.
        tracing: how it traces calls; None for not at all.
    """

    listen: str
    max_message_bytes: int = 64 * 1024 * 1024
    cors_origins: str = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
    hash_fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tracing: Values | None = None


# A `grpc-timeout` that gRPC cannot read would break more than its own call: gRPC keeps the failure in
# the header table of the connection that all callers share, and fails those that come after.
#
# %d: bytes. Refuses, before it is sent, what can't but be too large: JSON takes up to four characters
# for three bytes. A caller that does not wait for our word (`expect`) would lose our answer in the
# reset of its connection, so it may go on to where its message is refused by its real size, unless
# that would cost too much.
_DOOR_LUA = """
local LIMIT = %d
function envoy_on_request(handle)
  local headers = handle:headers()
  local timeout = headers:get("grpc-timeout")
  if timeout and not (#timeout <= 9 and string.find(timeout, "^%%d+[HMSmun]$")) then
    local words = "grpc-timeout: should be up to 8 digits and one of H, M, S, m, u, n"
    handle:respond({[":status"] = "400", ["grpc-status"] = "3"}, words)
    return
  end
  local length = tonumber(headers:get("content-length") or "0") or 0
  if length > 2 * LIMIT or (length > LIMIT * 4 / 3 + 65536 and headers:get("expect")) then
    handle:respond({[":status"] = "413"}, "")
  end
end
"""


def _filter(name: str, message: str, values: Values | None = None) -> Values:
    config = packed(f"{_HTTP}.{name}.v3.{message}", values)
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _lua(code: str) -> Values:
    return _filter("lua", "Lua", {"default_source_code": {"inline_string": code}})


def _transcoder(settings: GatewaySettings, services: Iterable[Service], descriptors: str) -> Values:
    values = {
        "proto_descriptor_bin": descriptors,
        "services": [*(service.full_name for service in services), FULL_NAME, REST_SERVICE],
        "convert_grpc_status": True,
        # What is 0 or empty is an answer too: a reader of JSON should not have to know the schema.
        "print_options": {"add_whitespace": True, "always_print_primitive_fields": True},
        "request_validation_options": {
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        "max_request_body_size": settings.max_message_bytes,
        "max_response_body_size": min(settings.max_message_bytes * 4, 2**32 - 1),
    }
    return _filter("grpc_json_transcoder", "GrpcJsonTranscoder", values)


def _extraction(settings: GatewaySettings, services: Iterable[Service], descriptors: str) -> Values:
    def wanted(service: Service, method: Method) -> list[str]:
        return [MODEL_FIELD, *sorted(method.fields & settings.hash_fields.get(service.name, {}).keys())]

    methods: dict[str, Values] = {
        f"{service.full_name}.{method.name}": {
            "request_field_extractions": {name: {} for name in wanted(service, method)}
        }
        for service in services
        for method in service.methods.values()
        if method.takes_model
    }
    for name, fields in MODEL_FIELDS.items():
        methods[f"{FULL_NAME}.{name}"] = {"request_field_extractions": {field: {} for field in fields}}
    values = {"descriptor_set": {"inline_bytes": descriptors}, "extractions_by_method": methods}
    return _filter("grpc_field_extraction", "GrpcFieldExtractionConfig", values)


def cors(settings: GatewaySettings) -> dict[str, Values]:
    """The per-route configuration of the CORS filter."""
    policy = {
        "allow_origin_string_match": [{"safe_regex": {"regex": settings.cors_origins}}],
        "allow_methods": "GET, POST, OPTIONS",
        "allow_headers": "content-type, x-grpc-web, x-user-agent, grpc-timeout, traceparent, tracestate",
        "expose_headers": "grpc-status, grpc-message, grpc-status-details-bin",
        "max_age": "86400",
    }
    return {"envoy.filters.http.cors": packed(f"{_HTTP}.cors.v3.CorsPolicy", policy)}


def listener_name(listen: str) -> str:
    """The name of the listener of the gateway at `listen`."""
    return f"{GATEWAY}/{listen}"


def gateway_node(mesh: str, listen: str) -> str:
    """The node id of the Envoy that is the gateway of a mesh at `listen`."""
    return f"{GATEWAY}/{mesh}/{listen}"


def framed(max_message_bytes: int) -> int:
    """The bytes that a message of so many takes: the five in front of it count too."""
    return min(max_message_bytes + 5, 2**31 - 1)


def gateway_listener(
    settings: GatewaySettings, services: Iterable[Service], descriptors: bytes, mesh: str = "default"
) -> Resource:
    """The listener of one gateway of a mesh: `services` with their REST mappings, as `descriptors` says."""
    services = tuple(services)
    text = base64.b64encode(descriptors).decode()
    whole = framed(settings.max_message_bytes)
    manager = connection_manager(
        {
            "stat_prefix": GATEWAY,
            "rds": {"config_source": FROM_ADS, "route_config_name": GATEWAY},
            "http_filters": [
                _filter("cors", "Cors"),
                _lua(_DOOR_LUA % settings.max_message_bytes),
                _filter("grpc_web", "GrpcWeb"),
                _transcoder(settings, services, text),
                # Of the routes that say so.
                {**_filter("buffer", "Buffer", {"max_request_bytes": whole}), "disabled": True},
                _extraction(settings, services, text),
                # Its script comes with the routes, since the models that there are stand in it.
                {**_filter("lua", "Lua"), "name": MODEL_FILTER},
                router_filter(),
            ],
            "http2_protocol_options": {
                "max_concurrent_streams": 1000,
                # Filters of an HTTP/2 stream hold at most a window of it.
                "initial_stream_window_size": whole,
                "initial_connection_window_size": whole,
                # A client that reads a stream of small messages gives its window back for each.
                "max_inbound_window_update_frames_per_data_frame_sent": 1000,
            },
            "use_remote_address": True,
            # A stream may be silent for as long as its caller waits; only headers must come soon.
            "stream_idle_timeout": "0s",
            "request_headers_timeout": "10s",
            # Proxies in front of us (nginx, for one) speak it unless told otherwise.
            "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "mesh"},
            "server_header_transformation": "PASS_THROUGH",
            "local_reply_config": local_replies(
                settings.max_message_bytes, traced=settings.tracing is not None
            ),
            # A span has it, by which a call that was refused here finds its trace.
            "generate_request_id": settings.tracing is not None,
            **({"tracing": settings.tracing} if settings.tracing else {}),
        }
    )
    network_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    name = listener_name(settings.listen)
    listener = {
        "name": name,
        "address": socket_address(settings.listen),
        "filter_chains": [{"filters": [network_filter]}],
        # Filters hold a message whole, so this is also the largest one.
        "per_connection_buffer_limit_bytes": whole,
        # Two gateways on one port would share its connections unnoticed.
        "enable_reuse_port": False,
    }
    body = encode("envoy.config.listener.v3.Listener", listener)
    return Resource(name, body, audience=gateway_node(mesh, settings.listen))

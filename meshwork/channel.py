"""How a client reaches the mesh: through the gateway, or proxyless through gRPC's own xDS.

Both kinds of channel take messages of 64 MB and retry by gRPC's service config (gRFC A6): only on
UNAVAILABLE, within the call's deadline, and under a budget (retry throttling), so that an outage
does not become a storm. Every method of the contract may be repeated: those that change something
carry a `request_id`, which the SDK sets.
"""

from __future__ import annotations

import json
import os

from meshwork.errors import InvalidArgument

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
LARGEST_MESSAGE_BYTES = 2**31 - 1  # a window of HTTP/2, in which a message must fit, can't be larger
XDS = "xds:///"

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


def target(address: str, service: str) -> str:
    """The gRPC target for calls to `service`: the gateway's address, or its `xds:///` name.

    Raises:
        InvalidArgument: it is a web address, or empty.
    """
    if not address or address.startswith(("http://", "https://")):
        raise InvalidArgument(f"should be host:port or {XDS}, not {address!r}", field="address")
    return f"{XDS}{service}" if address == XDS else address


def xds_bootstrap(router: str, *, node: str = "meshwork-client") -> str:
    """The bootstrap (gRFC A27) that lets `xds:///SERVICE` channels ask the router at `host:port`."""
    return json.dumps(
        {
            "xds_servers": [
                {
                    "server_uri": router,
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {"id": f"{node}-{os.getpid()}"},
        }
    )


def use_xds(router: str) -> None:
    """Makes this process's `xds:///` channels ask `router`; the environment's own bootstrap wins.

    gRPC reads it once, when the first such channel is made.
    """
    if not os.environ.get("GRPC_XDS_BOOTSTRAP"):
        os.environ.setdefault("GRPC_XDS_BOOTSTRAP_CONFIG", xds_bootstrap(router))

"""Which calls a client makes again, and how often: gRPC's service config (gRFC A6), from the contract.

    idempotency_level NO_SIDE_EFFECTS or IDEMPOTENT      repeated on UNAVAILABLE
    request with a `request_id`, by which it is known    repeated on UNAVAILABLE
    anything else                                        only if it certainly never arrived

The last is gRPC's own transparent retry (a call that was never sent, or that the server refused
before it began), which needs no setting. Repeats stay within the call's deadline and under a budget:
each failure takes a token, each success gives TOKEN_RATIO back, and below half of MAX_TOKENS nothing
is repeated, so that an outage does not become a storm. A server that dies fails all its calls in
flight at once, so the budget is as large as gRPC lets it be: 500 of them are repeated, where a
tenth of it was measured to lose what was beyond 50.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

MAX_ATTEMPTS = 5  # gRPC takes no more
MAX_TOKENS = 1000
TOKEN_RATIO = 0.1
REQUEST_ID = "request_id"


def repeatable(method: MethodDescriptor) -> bool:
    """Whether a call of `method` by the SDK may be made twice though the first may have arrived."""
    return (
        method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
        or REQUEST_ID in method.input_type.fields_by_name
    )


def service_config(services: Iterable[ServiceDescriptor]) -> str:
    """The service config, as JSON, of a channel on which these services are called."""
    names = [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if repeatable(method)
    ]
    policy = {
        "maxAttempts": MAX_ATTEMPTS,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2.5,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [{"name": names, "retryPolicy": policy}],
            "retryThrottling": {"maxTokens": MAX_TOKENS, "tokenRatio": TOKEN_RATIO},
        }
    )

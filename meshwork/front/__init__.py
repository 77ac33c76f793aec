"""What takes gRPC calls: grpc.aio's interface, on grpc's C core driven directly at a third of the cost.

`core` drives it and is all that touches grpcio's private parts, `call` is one call, `server` serves
them. Where this grpcio is not as `core` needs it, grpc.aio's own server takes its place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import grpc

log = logging.getLogger(__name__)

Front = Literal["core", "aio"]


def make_server(options: Sequence[tuple[str, Any]] = (), *, front: Front = "core") -> grpc.aio.Server:
    """A server for coroutine handlers.

    Args:
        options: channel arguments of gRPC.
        front: `core`, or `aio` for grpc.aio's own.
    """
    if front == "core":
        try:
            from meshwork.front.server import Server
        except ImportError as error:
            log.warning("serving by grpc.aio, at more CPU a call: %s", error)
        else:
            return Server(options)
    return grpc.aio.server(options=list(options))

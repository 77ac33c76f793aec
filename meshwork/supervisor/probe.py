"""Whether the gateway brings calls to each service, asked as a client would ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from meshwork.contract import descriptor

_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
}


async def unreachable(gateway: str, services: Iterable[str]) -> list[str]:
    """The services from which no replica answers through the gateway.

    An empty request is sent to each; that its replica refuses it as invalid is answer enough.
    """
    away = []
    async with grpc.aio.insecure_channel(gateway) as channel:
        for service in services:
            found = descriptor(service)
            call: Any = channel.unary_unary(f"/{found.full_name}/{found.methods[0].name}")
            try:
                await call(b"", timeout=1.0)
            except grpc.RpcError as error:
                if error.code() in _AWAY:
                    away.append(service)
    return away

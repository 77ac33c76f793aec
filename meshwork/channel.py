"""How a client reaches the mesh: through its gateways, or proxyless through gRPC's own xDS.

    "a:8080"          one gateway; gRPC looks its name up, again whenever a connection breaks
    "a:8080,b:8080"   several: `ipv4:A,B`, round robin, so that a dead one costs its own share only
    "xds:///"         `xds:///SERVICE`: endpoints, balancing and retries come from a router

A server that died is noticed by its closed connection, one that hangs by HTTP/2 pings (gRFC A8)
that it leaves unanswered, so at the latest after

    hang_s = keepalive time (silence before a ping) + ping timeout

In C-core `ping_timeout_ms` (a minute by default) is what ends the connection; without it
`keepalive_timeout_ms` has no effect. The calls of that connection then fail as UNAVAILABLE, and
those that may be repeated are (meshwork.retries).
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from meshwork.errors import InvalidArgument, Unavailable

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
LARGEST_MESSAGE_BYTES = 2**31 - 1  # a window of HTTP/2, in which a message must fit, can't be larger
XDS = "xds:///"
HANG_S = 2.5
SHORTEST_HANG_S, LONGEST_HANG_S = 0.1, 3600.0
SILENCE_SHARE = 0.4  # of `hang_s`, before a ping is sent
RECONNECT_S = (0.1, 2.0)  # between two tries to connect: at first, at most

# For servers of the mesh: clients and gateways ping as often as they like, idle or not. By default a
# server breaks connections that ping more than every 5 minutes (GOAWAY too_many_pings).
PINGS_ALLOWED: tuple[tuple[str, int], ...] = (("grpc.http2.max_ping_strikes", 0),)


def options(service_config: str, hang_s: float = HANG_S) -> list[tuple[str, int | str]]:
    """Options of a channel.

    Args:
        service_config: retries and balancing as JSON; `xds:///` channels get theirs from the router.
        hang_s: seconds after which a server that says nothing counts as dead.

    Raises:
        InvalidArgument: `hang_s` is too short for a ping to be answered.
    """
    if not SHORTEST_HANG_S <= hang_s <= LONGEST_HANG_S:
        raise InvalidArgument(
            f"should be from {SHORTEST_HANG_S} to {LONGEST_HANG_S} seconds, not {hang_s}", field="hang_s"
        )
    ping_ms = int(1000 * hang_s * (1 - SILENCE_SHARE))
    first_s, most_s = RECONNECT_S
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.service_config", service_config),
        # A request that does not fit is never repeated; by default that is anything above 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES + 1024 * 1024),
        ("grpc.keepalive_time_ms", int(1000 * hang_s * SILENCE_SHARE)),
        ("grpc.keepalive_timeout_ms", ping_ms),
        ("grpc.http2.ping_timeout_ms", ping_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(1000 * first_s)),
        ("grpc.max_reconnect_backoff_ms", int(1000 * most_s)),
    ]


def addresses(given: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses in `"a:8080, b:8080"`, or in a list of such.

    Raises:
        InvalidArgument: there is none, or one is a web address, or several are not all `host:port`.
    """
    texts: Sequence[str] = [given] if isinstance(given, str) else given
    found = tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    wrong = [each for each in found if each.startswith(("http://", "https://"))]
    if len(found) > 1:
        wrong += [each for each in found if not _host_and_port(each)]
    if wrong or not found:
        raise InvalidArgument(
            f"should be host:port, several of them by comma, or {XDS}, not {wrong[0] if wrong else given!r}",
            field="address",
        )
    return found


def _host_and_port(address: str) -> tuple[str, str] | None:
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), port) if host and "/" not in host and port.isdecimal() else None


def target(given: str | Sequence[str], service: str = "") -> str:
    """The gRPC target for calls to `service` at these addresses.

    Names of several are looked up here, once; of those that have no address now nothing is known.

    Raises:
        InvalidArgument: as `addresses`.
        Unavailable: not one of several names has an address.
    """
    found = addresses(given)
    if found == (XDS,):
        return f"{XDS}{service}"
    if len(found) == 1:
        return found[0]
    numbers = [number for each in found for number in _resolved(each)]
    if not numbers:
        raise Unavailable(f"address: not one of {', '.join(found)} has an IP address")
    if all(isinstance(ip, ipaddress.IPv4Address) for ip, _ in numbers):
        return "ipv4:" + ",".join(f"{ip}:{port}" for ip, port in numbers)
    # gRPC takes one family a target; IPv4 has its place in IPv6.
    mapped = [(f"::ffff:{ip}" if ip.version == 4 else str(ip), port) for ip, port in numbers]
    return "ipv6:" + ",".join(f"[{ip}]:{port}" for ip, port in mapped)


def _resolved(address: str) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str]]:
    parts = _host_and_port(address)
    assert parts is not None
    host, port = parts
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for entry in dict.fromkeys(str(info[4][0]) for info in found):
        yield ipaddress.ip_address(entry), port


def authority(given: str | Sequence[str]) -> list[tuple[str, str]]:
    """With several addresses: what the gateways are told that they are called, and TLS checks."""
    found = addresses(given)
    return [("grpc.default_authority", found[0])] if len(found) > 1 else []


def xds_bootstrap(routers: str | Sequence[str], *, zone: str = "", node: str = "meshwork-client") -> str:
    """The bootstrap (gRFC A27) that lets `xds:///SERVICE` channels ask any of the routers.

    All are one server to gRPC, with several addresses: it asks one, and the next when that is gone.
    Each process has its own order, so that the routers share the clients.
    """
    order = list(addresses(routers))
    random.shuffle(order)
    described: dict[str, Any] = {"id": f"{node}-{os.getpid()}"}
    if zone:
        described["locality"] = {"zone": zone}
    server = {
        "server_uri": target(order),
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    return json.dumps({"xds_servers": [server], "node": described})


def use_xds(routers: str | Sequence[str], zone: str = "") -> None:
    """Makes this process's `xds:///` channels ask `routers`; the environment's own bootstrap wins.

    gRPC reads it once, when the first such channel is made.
    """
    if not os.environ.get("GRPC_XDS_BOOTSTRAP"):
        os.environ.setdefault("GRPC_XDS_BOOTSTRAP_CONFIG", xds_bootstrap(routers, zone=zone))

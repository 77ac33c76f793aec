"""Which replicas the gateway of this router can't reach, as its Envoy says itself; and how often it checks.

It is evidence that is shown, not an ejection: what one gateway can't reach others may, so each Envoy
keeps its own calls from a host that it found dead, and the mesh takes nothing from the others for it.
What is shown was so in two looks in a row. A look waits for BREATHER times as long as the one before
took, so that an Envoy with very many hosts spends at most a twentieth of a core on being asked.

Each host is checked each second, in a mesh of more than CHECKS_PER_S of them as seldom as makes so many
checks: a check costs Envoy some 100 us, and a host that hangs is found by its lease too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from meshwork.router.v1 import router_pb2
from services.router import envoy

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
BREATHER = 20.0
REPLY_S = 5.0
CHECKS_PER_S = 1000

_SIGNS = {
    "failed_active_health_check": "health checks of it fail",
    "failed_outlier_check": "calls to it failed",
}


def unhealthy(clusters: str) -> tuple[dict[str, str], int]:
    """By `host:port` of each host that Envoy keeps calls from: why; and how many hosts there are.

    Args:
        clusters: what Envoy's `/clusters?format=json` gives.

    Raises:
        ValueError: it is not that.
    """
    found: dict[str, str] = {}
    hosts = 0
    try:
        for cluster in json.loads(clusters).get("cluster_statuses", ()):
            for host in cluster.get("host_statuses", ()):
                hosts += 1
                why = [text for sign, text in _SIGNS.items() if _says(host, sign)]
                if why:
                    place = host["address"]["socket_address"]
                    address = place["address"]
                    address = f"[{address}]" if ":" in address else address
                    found[f"{address}:{place['port_value']}"] = " and ".join(why)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not what Envoy says of its clusters: {error!r}") from error
    return found, hosts


def pause_ms(hosts: int) -> int:
    """The least time between two checks of a host, in ms; 0 where each second will do."""
    return 1000 * hosts // CHECKS_PER_S if hosts > CHECKS_PER_S else 0


def _says(host: Any, sign: str) -> bool:
    return bool(host.get("health_status", {}).get(sign))


class Sight:
    """Looks at an Envoy.

    Args:
        admin_socket: of its admin interface.
        gateway: its address, for people.
        replicas: gives the replicas there are.

    Attributes:
        unreachable: by replica, what to show.
    """

    def __init__(
        self,
        admin_socket: str,
        gateway: str,
        replicas: Callable[[], Mapping[str, router_pb2.Replica]],
    ) -> None:
        self._socket = admin_socket
        self._gateway = gateway
        self._replicas = replicas
        self._before: dict[str, str] = {}
        self._pause_ms = 0
        self.unreachable: dict[str, router_pb2.Ejection] = {}

    async def run(self) -> None:
        """Looks until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                status, body = await envoy.admin(self._socket, "/clusters?format=json", REPLY_S)
                now, hosts = unhealthy(body) if status == 200 else ({}, 0)
                await self._check_each(pause_ms(hosts))
            except (OSError, ValueError) as error:
                log.debug("the gateway's Envoy can't be asked: %s", error)
                now = {}
            self._take(now)
            await asyncio.sleep(max(INTERVAL_S, BREATHER * (clock() - begun)))

    async def _check_each(self, pause: int) -> None:
        # An Envoy that was started anew does not know what the one before was told.
        if pause or self._pause_ms:
            path = f"/runtime_modify?health_check.min_interval={pause}"
            status, body = await envoy.admin(self._socket, path, REPLY_S, "POST")
            if status != 200:
                raise ValueError(f"it answers {status} to {path}: {body}")
            self._pause_ms = pause

    def _take(self, now: dict[str, str]) -> None:
        twice = {address: why for address, why in now.items() if address in self._before}
        self._before = now
        found: dict[str, router_pb2.Ejection] = {}
        for name, replica in self._replicas().items() if twice else ():
            why = twice.get(replica.address)
            if why is None or replica.state != router_pb2.REPLICA_STATE_READY:
                continue
            detail = f"the gateway {self._gateway} keeps its calls from it: {why}"
            ejection = router_pb2.Ejection(reason=router_pb2.EJECTION_REASON_UNREACHABLE, detail=detail)
            if name in self.unreachable:
                ejection.since.CopyFrom(self.unreachable[name].since)
            else:
                ejection.since.GetCurrentTime()
            found[name] = ejection
        self.unreachable = found

"""Where writes go: asked of whoever knows, each time that a connection is made.

::

    Sentinels    SENTINEL GET-MASTER-ADDR-BY-NAME, of the first that answers
    Cluster      CLUSTER SLOTS, of the first node that answers: the primary of the slot that is used

All keys of a mesh lie in one slot (`meshwork.state.keys`), so a mesh lives on one primary of a cluster,
and one client to one server is all that it needs: with transactions, scripts, blocking commands and
subscriptions as on a single Redis. The slot is learned from the first MOVED. After a failover the old
connections break or are refused (MOVED, READONLY), and the next ones ask anew.

Sources: the Redis documents "Sentinel client spec" and "Cluster specification".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

Address = tuple[str, int]


class Primary(Protocol):
    """Finds the server that takes writes."""

    async def find(self) -> Address:
        """Host and port of it, as they are known now.

        Raises:
            RedisConnectionError: nobody knows.
        """

    def moved(self, slot: int | None) -> None:
        """Hears that the server which was found does not serve `slot`, or takes no writes (None)."""


class BySentinels:
    """The primary that Sentinels watch under a name.

    Args:
        client: makes a client for one Sentinel; it is closed after use.
    """

    def __init__(self, client: Callable[[Address], Redis], sentinels: list[Address], name: str) -> None:
        self._client = client
        self._sentinels = sentinels
        self._name = name

    async def find(self) -> Address:
        """See Primary."""
        problems = []
        for sentinel in tuple(self._sentinels):
            try:
                found = await _ask(self._client(sentinel), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            except (RedisError, OSError) as error:
                problems.append(f"{_text(sentinel)}: {error}")
                continue
            if found is None:
                problems.append(f"{_text(sentinel)}: watches no master {self._name!r}")
                continue
            # The next one to ask first is the one that just answered.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return str(found[0]), int(found[1])
        raise RedisConnectionError("no Sentinel names a master: " + "; ".join(problems))

    def moved(self, slot: int | None) -> None:
        """See Primary: Sentinels are asked anew anyway."""


class ByCluster:
    """The primary of the slot in which a mesh's keys lie.

    Args:
        client: makes a client for one node; it is closed after use.
        nodes: some that are known from the start; the others are learned.
    """

    def __init__(self, client: Callable[[Address], Redis], nodes: list[Address]) -> None:
        self._client = client
        self._nodes = nodes
        self._slot: int | None = None

    async def find(self) -> Address:
        """See Primary; any node that answers, until it is known which slot is used."""
        problems = []
        for node in tuple(self._nodes):
            try:
                ranges = await _ask(self._client(node), "CLUSTER SLOTS")
            except (RedisError, OSError) as error:
                problems.append(f"{_text(node)}: {error}")
                # Asked last from now on: a dead node costs a wait.
                self._nodes.remove(node)
                self._nodes.append(node)
                continue
            primary = self._primary(ranges, node)
            if primary is not None:
                return primary
            problems.append(f"{_text(node)}: knows no node that serves the slot {self._slot}")
        raise RedisConnectionError("no node of the cluster can be used: " + "; ".join(problems))

    def _primary(self, ranges: list[Any], asked: Address) -> Address | None:
        """Learns the nodes in an answer of CLUSTER SLOTS; the primary of the slot, if it names one."""
        primary = None
        for first, last, *servers in ranges:
            # A node that does not know its own host gives none: it is where it was asked.
            places = [(str(server[0] or asked[0]), int(server[1])) for server in servers]
            self._nodes += [place for place in places if place not in self._nodes]
            if places and (self._slot is None or int(first) <= self._slot <= int(last)):
                primary = places[0]
        return primary

    def moved(self, slot: int | None) -> None:
        """See Primary."""
        self._slot = self._slot if slot is None else slot


async def _ask(client: Redis, *command: str) -> Any:
    async with client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

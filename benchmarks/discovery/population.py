"""Ten thousand leases over a thousand models: deployments of some models each, of some replicas each.

Addresses are of this machine's loopback network, where nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from meshwork.router.v1 import router_pb2
from meshwork.state.leases import LeaseBook

SERVICES = ("vision", "nlp", "speech", "translation", "recommendation")
SIZES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 5)  # models of a deployment, in turn
LEASE_TTL_S = 3600.0  # what is said to be silent is told by the last renewal, not by this
_AT_ONCE = 50


def deployments(models: int) -> Iterator[tuple[str, list[str]]]:
    """Service and models (`name`) of each deployment, over `models` in all."""
    left, number = models, 0
    while left > 0:
        service = SERVICES[number % len(SERVICES)]
        names = [f"model-{models - left + index}" for index in range(min(SIZES[number % len(SIZES)], left))]
        yield service, names
        left -= len(names)
        number += 1


def replica(number: int, service: str, names: list[str]) -> router_pb2.Replica:
    """The replica `number`, which has each of the models ready."""
    made = router_pb2.Replica(
        name=f"{service}-{number}",
        service=service,
        address=f"127.{1 + number // 60000}.{number // 250 % 240}.{1 + number % 250}:9",
        state=router_pb2.REPLICA_STATE_READY,
        devices=["cpu"],
        host=f"host-{number // 8}",
        pid=number,
        release="1",
    )
    for name in names:
        made.models.add(
            name=name,
            version="1",
            service=service,
            state=router_pb2.MODEL_STATE_READY,
            methods=["Embed", "Classify"],
            device="cpu",
            memory_bytes=90_000_000,
            licence="Apache-2.0",
            description="A model of the benchmark of discovery, with a card as long as real ones have.",
            source=f"/models/{name}",
            capacity_rps=100.0,
        )
    return made


def population(leases: int, models: int) -> list[router_pb2.Replica]:
    """All replicas: the deployments have as many each."""
    groups = list(deployments(models))
    return [replica(number, *groups[number % len(groups)]) for number in range(leases)]


async def write(book: LeaseBook, replicas: list[router_pb2.Replica]) -> None:
    """Takes a lease for each."""
    for start in range(0, len(replicas), _AT_ONCE):
        await asyncio.gather(*(book.renew(each, LEASE_TTL_S) for each in replicas[start : start + _AT_ONCE]))

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from meshwork.router.v1 import router_pb2
from meshwork.state.keys import Keys
from meshwork.state.orders import Orders, Restart, Step
from meshwork.supervisor.rolling import Rolling, shortcoming

KEYS = Keys()
READY, FAILED = router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_FAILED


def replica(name: str, **models: router_pb2.ModelState.ValueType) -> router_pb2.Replica:
    found = router_pb2.Replica(name=name, state=router_pb2.REPLICA_STATE_READY)
    for model, state in models.items():
        found.models.add(name=model, version="1", state=state, error="no room" if state == FAILED else "")
    return found


class Machine:
    """The replicas of one supervisor; `bad` says why successors never become ready."""

    busy = 0  # replacements at work now, over all machines

    def __init__(self, *names: str, bad: str = "") -> None:
        self.names = list(names)
        self.ended: list[str] = []
        self._bad = bad

    def runs(self, name: str) -> bool:
        return name in self.names

    def lease(self, name: str) -> router_pb2.Replica | None:
        return None if name.endswith("+") and self._bad else replica(name, m=READY)

    def replace(self, name: str) -> str:
        Machine.busy += 1
        assert Machine.busy == 1
        self.names.remove(name)
        self.names.append(f"{name}+")
        return f"{name}+"

    def keep(self, name: str) -> None:
        self.names.append(name)

    def trouble(self, name: str) -> str:
        return self._bad

    async def retire(self, name: str) -> None:
        await asyncio.sleep(0.05)
        Machine.busy -= 1
        self.ended.append(name)


@asynccontextmanager
async def supervised(redis: Redis, *machines: Machine) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(Rolling(redis, KEYS, each, ["nlp"]).run()) for each in machines]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def done(orders: Orders, order: Restart, count: int) -> dict[str, Step]:
    async with asyncio.timeout(30):
        while True:
            steps = await orders.steps(order.id)
            if sum(step.state in ("replaced", "failed") for step in steps.values()) == count:
                return steps
            await asyncio.sleep(0.02)


async def test_every_machine_replaces_its_own_replicas_one_at_a_time_over_all(redis: Redis) -> None:
    Machine.busy = 0
    one, two = Machine("a", "b"), Machine("c")
    orders, order = Orders(redis, KEYS), Restart(service="nlp", replicas=("a", "b", "c", "by-hand"))
    async with supervised(redis, one, two):
        await orders.restart(order)
        steps = await done(orders, order, 3)
    assert {name: (step.state, step.successor) for name, step in steps.items()} == {
        name: ("replaced", f"{name}+") for name in ("a", "b", "c")
    }
    assert (one.ended, two.ended) == (["a", "b"], ["c"])


async def test_where_a_successor_does_not_become_ready_the_old_one_stays_and_nothing_more_is_done(
    redis: Redis,
) -> None:
    Machine.busy = 0
    machine = Machine("a", "b", bad="it ended 3 times")
    orders, order = Orders(redis, KEYS), Restart(service="nlp", replicas=("a", "b"))
    async with supervised(redis, machine):
        await orders.restart(order)
        steps = await done(orders, order, 2)
    assert steps["a"].detail == "it ended 3 times"
    assert "not tried, since a" in steps["b"].detail
    assert machine.ended == ["a+"]
    assert machine.runs("a")
    assert machine.runs("b")


async def test_what_is_no_order_in_redis_is_passed_over(redis: Redis) -> None:
    await redis.set(KEYS.restart("nlp"), "{nonsense")
    assert await Orders(redis, KEYS).last_restart("nlp") is None


def test_a_successor_must_have_what_the_old_one_has() -> None:
    old = replica("old", a=READY, b=READY, c=FAILED)
    assert shortcoming(old, None) == ""
    assert shortcoming(old, router_pb2.Replica()) == ""
    assert shortcoming(old, replica("new", a=READY, b=router_pb2.MODEL_STATE_UNLOADED)) is None
    assert shortcoming(old, replica("new", a=READY, b=router_pb2.MODEL_STATE_LOADING)) == ""
    assert shortcoming(old, replica("new", a=READY, b=FAILED)) == "new does not have b@1: no room"

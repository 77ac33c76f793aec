import asyncio
import socket
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from meshwork.errors import ResourceExhausted
from meshwork.router.v1 import router_pb2
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook, LeaseView
from services.router.registry import WATCH_QUEUE, Change, FellBehind, Registry, Roster, differences
from services.router.service import RouterService, models_of

ADDED, MODIFIED, REMOVED = 1, 2, 3


def replica(name: str, state: router_pb2.ReplicaState.ValueType = 2) -> router_pb2.Replica:
    return router_pb2.Replica(name=name, service="nlp", address="127.0.0.1:1", state=state)


def view(*names: str, epoch: str = "e", reconnected: bool = False) -> LeaseView:
    return LeaseView(replicas={name: replica(name) for name in names}, epoch=epoch, reconnected=reconnected)


@pytest.fixture
def roster() -> Roster:
    made = Roster(grace_s=6)
    assert made.update(view("a", "b", reconnected=True), 100)
    return made


def test_a_lease_that_goes_takes_its_replica_out_at_once(roster: Roster) -> None:
    assert roster.update(view("a"), 101)
    assert set(roster.replicas) == {"a"}


def test_a_redis_that_forgot_takes_nothing_out_until_replicas_had_time(roster: Roster) -> None:
    assert not roster.update(view(epoch=""), 101)
    assert set(roster.replicas) == {"a", "b"}
    roster.update(view("a", epoch="new"), 102)
    assert set(roster.replicas) == {"a", "b"}
    assert not roster.settled(107)
    roster.update(view("a", epoch="new"), 108.5)
    assert set(roster.replicas) == {"a"}
    assert roster.settled(109)


def test_the_first_lease_of_a_new_mesh_starts_no_grace_period() -> None:
    roster = Roster(grace_s=6)
    roster.update(view(epoch=""), 100)
    roster.update(view("a"), 101)
    roster.update(view(), 102)
    assert roster.replicas == {}


def test_leases_that_lapsed_while_redis_was_away_are_kept_for_the_grace_period(roster: Roster) -> None:
    roster.update(view(reconnected=True), 101)
    assert set(roster.replicas) == {"a", "b"}
    roster.update(view(), 108)
    assert roster.replicas == {}


def test_a_draining_replica_is_not_kept(roster: Roster) -> None:
    draining = LeaseView(replicas={"a": replica("a", 3), "b": replica("b")}, epoch="e")
    roster.update(draining, 101)
    roster.update(view(epoch="new"), 102)
    assert set(roster.replicas) == {"b"}


def test_a_redis_that_forgot_gives_up_only_those_that_do_not_come_back() -> None:
    roster = Roster(grace_s=6)
    roster.update(view(*"abcdef", epoch="e"), 100)
    roster.update(view(epoch=""), 101)
    for back, at in (("a", 102), ("ab", 103), ("abc", 107.9)):
        roster.update(view(*back, epoch="new"), at)
        assert set(roster.replicas) == set("abcdef")
    roster.update(view(*"abc", epoch="new"), 108)
    assert set(roster.replicas) == set("abc")


def test_a_redis_that_forgets_again_gives_replicas_time_again(roster: Roster) -> None:
    roster.update(view(epoch=""), 101)
    roster.update(view("a", epoch="new"), 106)
    roster.update(view(epoch=""), 111)
    roster.update(view(epoch=""), 116.9)
    assert set(roster.replicas) == {"a", "b"}
    roster.update(view(epoch=""), 117)
    assert roster.replicas == {}


def test_a_server_that_took_over_and_missed_leases_takes_nothing_out(roster: Roster) -> None:
    roster.update(view("a", epoch="e@other"), 101)
    assert set(roster.replicas) == {"a", "b"}
    roster.update(view("a", "b", epoch="e@other"), 103)
    roster.update(view("b", epoch="e@other"), 107)
    assert set(roster.replicas) == {"b"}


def test_what_a_replica_says_anew_within_the_grace_period_counts(roster: Roster) -> None:
    roster.update(view(epoch=""), 101)
    roster.update(LeaseView(replicas={"a": replica("a", 3)}, epoch="new"), 102)
    assert roster.replicas["a"].state == 3
    roster.update(view("new", epoch="new"), 103)
    assert set(roster.replicas) == {"b", "new"}


def test_recalled_replicas_are_a_guess_until_redis_speaks_and_then_have_time() -> None:
    roster = Roster(grace_s=6)
    assert roster.recall({"a": replica("a"), "b": replica("b")})
    assert set(roster.replicas) == {"a", "b"}
    assert not roster.known
    roster.update(view("a", "c", reconnected=True), 100)
    assert roster.known
    assert set(roster.replicas) == {"a", "b", "c"}
    roster.update(view("a", "c"), 106)
    assert set(roster.replicas) == {"a", "c"}


def test_nothing_is_recalled_once_redis_spoke(roster: Roster) -> None:
    assert not roster.recall({"z": replica("z")})
    assert set(roster.replicas) == {"a", "b"}


def test_an_empty_redis_is_believed_only_after_the_grace_period() -> None:
    roster = Roster(grace_s=6)
    roster.update(view(epoch=""), 100)
    assert not roster.known
    roster.update(view(epoch=""), 106)
    assert roster.known


def test_the_first_lease_shows_that_redis_knows() -> None:
    roster = Roster(grace_s=6)
    roster.update(view("a"), 100)
    assert roster.known


def test_differences_are_told_by_name() -> None:
    before = {"a": replica("a"), "b": replica("b")}
    after = {"b": replica("b", 3), "c": replica("c")}
    changes = [(change.type, change.replica.name) for change in differences(before, after)]
    assert changes == [(REMOVED, "a"), (MODIFIED, "b"), (ADDED, "c")]


class Views:
    """A lease book that gives the views that it is handed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[LeaseView] = asyncio.Queue()

    async def watch(self) -> AsyncGenerator[LeaseView, None]:
        while True:
            yield await self.queue.get()

    async def reap(self) -> list[str]:
        return []

    async def view(self) -> LeaseView:
        return view()


async def test_a_watcher_hears_what_is_there_and_then_changes() -> None:
    views = Views()
    registry = Registry(views)  # type: ignore[arg-type]
    running = asyncio.create_task(registry.run())
    views.queue.put_nowait(view("a"))
    await registry.changed.wait()
    watch = registry.watch()
    assert (await anext(watch)).replica.name == "a"
    views.queue.put_nowait(view("a", "b"))
    assert (await anext(watch)) == Change(ADDED, replica("b"))
    views.queue.put_nowait(view("b"))
    assert (await anext(watch)) == Change(REMOVED, replica("a"))
    await watch.aclose()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_views_that_tell_what_changed_give_the_same_as_whole_ones() -> None:
    registry = Registry(Views())  # type: ignore[arg-type]
    before: set[str] = set()
    for names, epoch in [("ab", "e"), ("abc", "e"), ("bc", "e"), ("", "new"), ("c", "new"), ("cd", "new")]:
        changed = frozenset(before ^ set(names))
        await registry._take(replace(view(*names, epoch=epoch), changed=changed))
        before = set(names)
        kept = {"b", "c"} if epoch == "new" else set()
        assert set(registry.replicas) == set(names) | kept
    assert registry.take_changes() == {"a", "b", "c", "d"}
    assert registry.take_changes() == set()


async def test_a_replica_that_starts_anew_under_its_host_s_name_is_looked_up_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["10.0.0.1", "10.0.0.2"]

    async def lookup(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, 1, 6, "", (answers.pop(0), 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    registry = Registry(Views())  # type: ignore[arg-type]
    for start_s, address in [(1, "10.0.0.1:5"), (1, "10.0.0.1:5"), (2, "10.0.0.2:5")]:
        lease = router_pb2.Replica(name="a", address="vision-0:5", state=1, start_time={"seconds": start_s})
        await registry._take(LeaseView(replicas={"a": lease}, epoch="e"))
        assert registry.replicas["a"].address == address
    assert len(registry._hosts) == 1


async def test_a_watcher_that_falls_behind_is_told_so() -> None:
    registry = Registry(Views())  # type: ignore[arg-type]
    watch = registry.watch()
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    for _ in range(WATCH_QUEUE + 1):
        registry._tell(Change(ADDED, replica("a")))
    await waiting
    for _ in range(WATCH_QUEUE - 1):
        await anext(watch)
    with pytest.raises(FellBehind):
        await anext(watch)


def test_a_model_is_described_by_a_replica_that_has_it_ready() -> None:
    loading, ready = replica("a"), replica("b")
    loading.models.add(name="m", version="1", state=router_pb2.MODEL_STATE_LOADING)
    ready.models.add(name="m", version="1", state=router_pb2.MODEL_STATE_READY, memory_bytes=7)
    (served,) = models_of([loading, ready])
    assert served.model.memory_bytes == 7
    assert list(served.replicas) == ["b"]


async def test_services_without_replicas_are_listed_with_what_was_asked_for() -> None:
    registry = Registry(Views())  # type: ignore[arg-type]
    service = RouterService(registry, ["vision"], lambda: {"nlp": 2}, None, None)  # type: ignore[arg-type]
    answer = await service.ListServices(router_pb2.ListServicesRequest(), None)  # type: ignore[arg-type]
    assert [(each.name, each.desired_replicas) for each in answer.services] == [("nlp", 2), ("vision", 0)]
    assert issubclass(ResourceExhausted, Exception)


ALL = ("leases", "lease_expiry", "lease_epoch", "lease_serial", "lease_log", "lease_pulse", "lease_renewed")


@pytest.mark.parametrize(
    "lost",
    [
        *[(name,) for name in ALL],
        ("leases", "lease_serial"),
        ("lease_expiry", "lease_serial"),
        tuple(name for name in ALL if name != "lease_epoch"),
        ALL,
    ],
    ids="+".join,
)
async def test_whichever_keys_redis_loses_no_replica_is_taken_out(
    redis: Redis, lost: tuple[str, ...]
) -> None:
    keys = Keys(mesh="m")
    book = LeaseBook(redis, keys)
    registry = Registry(book)
    for name in ("a", "b"):
        await book.renew(replica(name), 10)
    run = asyncio.create_task(registry.run())
    try:
        async with asyncio.timeout(10):
            while set(registry.replicas) != {"a", "b"}:
                await asyncio.sleep(0.01)
        gone = asyncio.create_task(seen_to_go(registry))
        await redis.delete(*(getattr(keys, name) for name in lost))
        await redis.publish(keys.lease_changes, "")  # has the leases read again
        await asyncio.sleep(0.3)
        for name in ("a", "b"):
            await book.renew(replica(name), 10)
            await asyncio.sleep(0.3)
        assert set(registry.replicas) == {"a", "b"}
        assert not gone.done()
        gone.cancel()
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def seen_to_go(registry: Registry) -> str:
    async for change in registry.watch():
        if change.type == REMOVED:
            return change.replica.name
    return ""

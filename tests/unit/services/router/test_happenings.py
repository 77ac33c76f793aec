"""What is written down of what happens, how fresh state is said to be, and what Envoy says of its hosts."""

from __future__ import annotations

import json

import pytest

from meshwork.router.v1 import router_pb2
from meshwork.state.routers import RoutersView
from services.router import happenings
from services.router.chronicle import same
from services.router.sight import CHECKS_PER_S, pause_ms, unhealthy
from services.router.standing import Standing

READY, DRAINING, STARTING = 2, 3, 1
INFO, WARNING, ERROR = 1, 2, 3


def replica(state: int, pid: int = 1, **models: int) -> router_pb2.Replica:
    made = router_pb2.Replica(name="nlp-1", service="nlp", address="h:1", state=state, pid=pid)  # type: ignore[arg-type]
    for name, model_state in models.items():
        made.models.add(
            name=name, version="1", state=model_state, error="no file" if model_state == 3 else ""
        )  # type: ignore[arg-type]
    return made


def told(
    before: router_pb2.Replica | None, after: router_pb2.Replica | None, silent_s: float | None = None
) -> list[str]:
    return [event.message for event in happenings.of_replica(before, after, silent_s)]


def test_a_replicas_life_is_told_with_reasons() -> None:
    assert told(None, replica(STARTING)) == []
    assert told(replica(STARTING, a=1), replica(READY, a=2)) == ["up at h:1 with 1 model"]
    assert told(replica(READY), replica(READY)) == []
    assert told(replica(READY), replica(DRAINING)) == [
        "draining: it finishes what it has and takes nothing new"
    ]
    assert told(replica(DRAINING), None) == ["down: it gave its lease up after it drained"]
    assert told(replica(STARTING), None) == ["down: it gave its lease up"]
    assert told(replica(READY), None, 6.2) == ["down: its lease lapsed, silent for 6 s"]
    assert told(replica(READY), replica(READY, pid=7)) == ["up at h:1: another process, 7, has its lease"]


def test_models_that_fail_are_told_at_once_and_others_once_the_replica_is_ready() -> None:
    assert told(replica(STARTING, a=1), replica(STARTING, a=2, b=3)) == ["b@1 is failed: no file"]
    assert told(replica(READY, a=2, b=2), replica(READY, a=4)) == ["a@1 is unloaded", "b@1 was removed"]


def test_ejections_are_told_with_evidence_and_so_is_the_return() -> None:
    hung = router_pb2.Ejection(reason=router_pb2.EJECTION_REASON_HUNG, detail="silent for 3 s")
    slow = router_pb2.Ejection(reason=router_pb2.EJECTION_REASON_SLOW, detail="98 ms")
    there = {"nlp-1": replica(READY)}

    def words(
        before: dict[str, router_pb2.Ejection], after: dict[str, router_pb2.Ejection], *ruled: str
    ) -> list[str]:
        return [event.message for event in happenings.of_ejections(before, after, there, ruled)]

    assert words({}, {"nlp-1": hung}) == ["ejected as hung: silent for 3 s"]
    assert "overruled" in words({}, {"nlp-1": hung}, "nlp-1")[0]
    assert words({"nlp-1": hung}, {"nlp-1": slow}) == ["ejected as slow: 98 ms"]
    assert words({"nlp-1": hung}, {}) == ["takes traffic again: it renews its lease again"]
    assert words({"nlp-1": slow}, {}) == ["takes traffic again: it was out for being slow, on trial"]
    assert words({"gone": slow}, {}) == []


def test_a_router_that_went_silent_is_worse_than_one_that_was_stopped() -> None:
    one, two = router_pb2.Router(name="a", address="h:1"), router_pb2.Router(name="b", address="h:2")
    both = RoutersView(routers={"a": one, "b": two})
    alone = RoutersView(routers={"b": two})
    (stopped,) = happenings.of_routers(both, alone)
    (silent,) = happenings.of_routers(both, RoutersView(routers={"b": two}, lapsed=frozenset({"a"})))
    assert (stopped.level, silent.level) == (INFO, WARNING)
    (up,) = happenings.of_routers(alone, both)
    assert (up.subject, up.message) == ("a", "up at h:1")
    other = RoutersView(routers={"a": router_pb2.Router(name="a", address="h:1", pid=9), "b": two})
    (replaced,) = happenings.of_routers(both, other)
    assert "another process, 9" in replaced.message


def test_what_two_routers_saw_is_one_event_however_long_each_measured() -> None:
    one, two = (happenings.happened(2, 2, f"silent for {text} s", subject="a") for text in ("6", "7"))  # type: ignore[arg-type]
    assert same(one, two)
    two.subject = "b"
    assert not same(one, two)
    two.subject = "a"
    two.time.seconds += 60
    assert not same(one, two)


def test_state_is_stale_from_the_first_failure_until_redis_has_every_lease_again() -> None:
    standing = Standing(100)
    assert standing.stale
    assert standing.heard("e", (), 101) == []
    assert not standing.stale
    assert [level for level, _ in standing.failed(OSError("refused"), 110)] == [ERROR]
    assert standing.failed(OSError("refused"), 111) == []
    assert (standing.stale, standing.since) == (True, 110)
    assert "refused" in standing.problem
    happened = standing.heard("f", ["nlp-1"], 122)
    assert [level for level, _ in happened] == [INFO, WARNING]
    assert "12 s" in happened[0][1]
    assert standing.message().since.seconds == 110
    assert "nlp-1" in standing.problem
    assert standing.heard("f", (), 125) == []
    assert (standing.stale, standing.since, standing.problem) == (False, 125, "")


def test_hosts_that_envoy_keeps_calls_from_are_found_with_the_reason() -> None:
    def host(port: int, **signs: bool) -> dict[str, object]:
        return {"address": {"socket_address": {"address": "::1", "port_value": port}}, "health_status": signs}

    body = {
        "cluster_statuses": [
            {"name": "a", "host_statuses": [host(1), host(2, failed_outlier_check=True)]},
            {"name": "b"},
        ]
    }
    found, hosts = unhealthy(json.dumps(body))
    assert found == {"[::1]:2": "calls to it failed"}
    assert hosts == 2
    for garbage in ("", "[]", '{"cluster_statuses": [1]}', '{"cluster_statuses": [{"host_statuses": [[]]}]}'):
        with pytest.raises(ValueError, match=r"."):
            unhealthy(garbage)


def test_hosts_are_checked_each_second_until_there_are_very_many() -> None:
    assert pause_ms(0) == pause_ms(CHECKS_PER_S) == 0
    assert pause_ms(10 * CHECKS_PER_S) == 10_000

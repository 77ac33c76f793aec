"""Who gets a call, by each policy, and what a caller notices when replicas hang, die, or are late."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from services.router.envoy import admin, admin_socket
from tests.mesh.gateway.conftest import Mesh

TIMEOUT_S = 30.0
MODELS = ("plain@1", "least@1", "round@1", "ring@1", "asked@1", "hedged@1", "zoned@1")
POLICIES = {
    "nlp": {
        "models": {
            "least": {"balance": "least_request"},
            "round": {"balance": "round_robin"},
            "ring": {"balance": "ring_hash", "hash_by": {"header": "x-user"}},
            "asked": {"balance": "ring_hash", "hash_by": {"field": "query"}},
            "hedged": {"hedge_after_ms": 200, "balance": "round_robin"},
            "zoned": {"locality": "prefer"},
        }
    }
}
ZONES = {"nlp-1": "a", "nlp-2": "b"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    running = Mesh(tmp_path_factory.mktemp("mesh"), MESHWORK_POLICIES=json.dumps(POLICIES))
    try:
        for name, zone in ZONES.items():
            running.start_replica(name, *MODELS, zone=zone)
        running.environment["MESHWORK_ZONE"] = "a"
        running.start_router()
        yield running
    finally:
        running.stop()


class Caller:
    """Calls through the gateway, and counts the answers by replica."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = nlp_pb2_grpc.NlpServiceStub(channel)
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.stopped = asyncio.Event()

    async def call(self, model: str, *texts: str, user: str = "", timeout_s: float = TIMEOUT_S) -> str:
        metadata = (("x-user", user),) if user else ()
        request = nlp_pb2.EmbedRequest(model=model, texts=texts or ("a",))
        try:
            answer = await self.stub.Embed(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self.errors[f"{error.code().name} {error.details()}"] += 1
            return ""
        self.answers[answer.served_by.replica] += 1
        return str(answer.served_by.replica)

    async def until(self, condition: Any, what: str) -> None:
        async with asyncio.timeout(60):
            while not condition():
                assert not self.errors, (what, self.errors)
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def load(self, workers: int, model: str, *texts: str) -> AsyncIterator[None]:
        """So many callers, one call after the other each, until the block ends."""
        self.stopped.clear()
        self.answers.clear()

        async def work() -> None:
            while not self.stopped.is_set():
                await self.call(model, *texts)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
            try:
                yield
            finally:
                self.stopped.set()


@pytest.fixture
async def caller(mesh: Mesh) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        made = Caller(channel)
        async with asyncio.timeout(60):
            while not made.answers.keys() >= ZONES.keys():
                await asyncio.gather(*(made.call("round") for _ in range(8)))
        made.answers.clear()
        made.errors.clear()
        yield made


async def stats(mesh: Mesh, cluster: str) -> dict[str, int]:
    """Envoy's counters of a cluster."""
    prefix = f"cluster.{cluster}."
    _, text = await admin(admin_socket(mesh.folder), "/stats?filter=upstream_rq_(total|retry|completed)$")
    lines = (line.rpartition(": ") for line in text.splitlines() if line.startswith(prefix))
    return {name.removeprefix(prefix): int(value) for name, _, value in lines}


async def test_a_replica_that_hangs_under_load_costs_no_call(mesh: Mesh, caller: Caller) -> None:
    async with caller.load(100, "plain", "late", "", "0.05"):
        await caller.until(lambda: caller.answers["nlp-2"] > 200, "both answer")
        mesh.processes["nlp-2"].send_signal(signal.SIGSTOP)
        try:
            # All callers come to wait for it, until its connections end.
            before = caller.answers["nlp-1"]
            await caller.until(lambda: caller.answers["nlp-1"] > before + 2000, "the other goes on")
        finally:
            mesh.processes["nlp-2"].send_signal(signal.SIGCONT)
        await caller.until(lambda: caller.answers["nlp-2"] > 400, "it comes back")
    assert not caller.errors


async def test_a_replica_that_dies_with_hundreds_of_calls_in_flight_costs_none(
    mesh: Mesh, caller: Caller
) -> None:
    before = await stats(mesh, "nlp/round@1")
    async with caller.load(400, "round", "late", "", "0.5"):
        await caller.until(lambda: caller.answers["nlp-2"] > 150, "both answer")
        mesh.kill("nlp-2")
        alone = caller.answers["nlp-1"]
        await caller.until(lambda: caller.answers["nlp-1"] > alone + 800, "the other goes on")
        mesh.start_replica("nlp-2", *MODELS, zone="b")
    assert not caller.errors
    after = await stats(mesh, "nlp/round@1")
    # Each call that it had is made again once: what is lost is repeated, and nothing else.
    assert 100 <= after["upstream_rq_retry"] - before["upstream_rq_retry"] <= 400


async def test_an_outage_is_no_storm(mesh: Mesh, caller: Caller) -> None:
    before = await stats(mesh, "nlp/plain@1")
    await asyncio.gather(*(caller.call("plain", "unavailable") for _ in range(300)))
    after = await stats(mesh, "nlp/plain@1")
    assert caller.errors == {"UNAVAILABLE as asked": 300}
    assert after["upstream_rq_total"] - before["upstream_rq_total"] <= 3 * 300


async def test_an_overloaded_replica_is_not_asked_again(mesh: Mesh, caller: Caller) -> None:
    before = await stats(mesh, "nlp/plain@1")
    await asyncio.gather(*(caller.call("plain", "exhausted") for _ in range(50)))
    after = await stats(mesh, "nlp/plain@1")
    assert caller.errors == {"RESOURCE_EXHAUSTED as asked": 50}
    assert after["upstream_rq_total"] - before["upstream_rq_total"] == 50


async def test_what_a_replica_does_not_do_another_does_however_the_weights_are(
    mesh: Mesh, caller: Caller
) -> None:
    users = [f"user-{number}" for number in range(400)]
    found = await asyncio.gather(*(caller.call("ring", "unavailable", "nlp-2", user=user) for user in users))
    assert not caller.errors
    assert set(found) == {"nlp-1"}
    # By their reports nlp-2 has room for ten times as much.
    async with caller.load(4, "plain", "busy", "nlp-1", "1"):
        await caller.until(lambda: caller.answers["nlp-2"] > 6 * caller.answers["nlp-1"] > 0, "weights")
    found = await asyncio.gather(*(caller.call("plain", "unavailable", "nlp-2") for _ in range(200)))
    assert not caller.errors
    assert set(found) == {"nlp-1"}
    async with caller.load(4, "plain", "busy", "nlp-1", "0.1"):
        await caller.until(lambda: caller.answers["nlp-1"] > 200, "as before")


async def test_a_late_replica_gets_the_smaller_part_by_least_request(caller: Caller) -> None:
    async with caller.load(8, "least", "late", "nlp-2", "0.1"):
        await caller.until(lambda: caller.answers["nlp-1"] > 400, "they answer")
    assert 0 < caller.answers["nlp-2"] < caller.answers["nlp-1"] / 2


async def test_a_read_only_call_that_is_late_is_answered_by_another_replica(caller: Caller) -> None:
    found = await asyncio.gather(
        *(caller.call("hedged", "late", "nlp-2", "30", timeout_s=15) for _ in range(20))
    )
    assert not caller.errors
    assert set(found) == {"nlp-1"}
    # What was late is still in health: both answer.
    async with caller.load(2, "hedged"):
        await caller.until(lambda: caller.answers["nlp-2"] > 20, "it takes calls")


async def test_calls_stay_in_the_zone_of_the_gateway_until_it_is_busy(caller: Caller) -> None:
    async with caller.load(4, "zoned", "busy", "nlp-1", "0.1"):
        await caller.until(lambda: caller.answers["nlp-1"] > 200, "its zone answers")
        caller.answers.clear()
        await caller.until(lambda: caller.answers["nlp-1"] > 500, "its zone answers")
    assert caller.answers["nlp-2"] < 50
    async with caller.load(4, "zoned", "busy", "nlp-1", "0.95"):
        await caller.until(lambda: caller.answers["nlp-2"] > 500, "the other zone helps")


async def owners(caller: Caller) -> dict[str, str]:
    users = [f"user-{number}" for number in range(60)]
    found = await asyncio.gather(*(caller.call("ring", user=user) for user in users))
    return dict(zip(users, found, strict=True))


async def test_a_user_stays_with_a_replica_and_only_those_of_a_dead_one_move(
    mesh: Mesh, caller: Caller
) -> None:
    mesh.start_replica("nlp-3", *MODELS, zone="b")
    before = await owners(caller)
    async with asyncio.timeout(60):
        while len(set(before.values())) < 3 or before != await owners(caller):
            before = await owners(caller)
    mesh.kill("nlp-3")
    after = await owners(caller)
    assert not caller.errors
    moved = {user for user in before if before[user] != after[user]}
    assert moved == {user for user in before if before[user] == "nlp-3"}


async def test_calls_of_one_value_of_a_request_field_go_to_one_replica(caller: Caller) -> None:
    async def asks(query: str) -> str:
        request = nlp_pb2.MatchTextsRequest(model="asked", query=query, candidates=["a"])
        return str((await caller.stub.MatchTexts(request, timeout=TIMEOUT_S)).served_by.replica)

    queries = ["where", "wo", "où", "ligne\n", *(f"number {number}" for number in range(20))]
    first = await asyncio.gather(*(asks(query) for query in queries))
    for _ in range(3):
        assert await asyncio.gather(*(asks(query) for query in queries)) == first
    assert len(set(first)) > 1


XDS = """
import collections, json, os, sys
os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = sys.argv[1]
import grpc
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
found = collections.defaultdict(set)
with grpc.insecure_channel("xds:///nlp") as channel:
    stub = nlp_pb2_grpc.NlpServiceStub(channel)
    for model in sys.argv[2:]:
        for _ in range(40):
            call = (("x-meshwork-model", model), ("x-user", "me"))
            request = nlp_pb2.EmbedRequest(model=model, texts=["a"])
            found[model].add(stub.Embed(request, timeout=20, metadata=call).served_by.replica)
print(json.dumps({model: sorted(replicas) for model, replicas in found.items()}))
"""


async def test_a_grpc_client_takes_every_policy_and_stays_in_its_zone(mesh: Mesh, caller: Caller) -> None:
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": mesh.router_address,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "test", "locality": {"zone": "a"}},
    }
    models = [model.partition("@")[0] for model in MODELS]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", XDS, json.dumps(bootstrap), *models],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found.pop("ring")) == 1
    assert found.pop("zoned") == ["nlp-1"]
    found.pop("asked")  # no header says what this client asks
    assert all(set(replicas) == ZONES.keys() for replicas in found.values())
    assert "rejects" not in mesh.log("router")

"""What routers do together: one leads, a replica that hangs is out of all traffic, and people are told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import meshwork
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2
from meshwork.supervisor.ports import free_port
from tests.mesh.gateway.conftest import Mesh, until

REPLICAS = ("nlp-1", "nlp-2", "nlp-3")


class Pair(Mesh):
    """Three replicas and two routers, the second one without a gateway."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.second = f"127.0.0.1:{free_port()}"

    def begin(self) -> None:
        for name in REPLICAS:
            self.start_replica(name, "minilm@1")
        self.environment["MESHWORK_ROUTER"] = "first"
        self.start_router()
        self.start_second()
        until(lambda: len(self.ready()) == len(REPLICAS), "the replicas are ready")
        until(lambda: len(self.view(self.second).routers) == 2, "the routers know each other")

    def start_second(self) -> None:
        said = self.log("second").count("router ready")
        self.start(
            "second",
            *("-m", "services.router"),
            MESHWORK_ROUTER="second",
            MESHWORK_ROUTER_LISTEN=self.second,
            MESHWORK_GATEWAY_LISTEN="",
            MESHWORK_RUN_DIR=str(self.folder / "second"),
        )
        until(lambda: self.log("second").count("router ready") > said, "the second router is ready")

    def valkey_process(self) -> psutil.Process:
        (process,) = (
            child
            for child in psutil.Process().children()
            if any(each.laddr.port == self.valkey.port for each in child.net_connections("tcp4"))
        )
        return process

    def view(self, address: str) -> router_pb2.GetMeshResponse:
        with meshwork.connect(address, timeout_s=5) as client:
            return client.router.get_mesh()

    def replicas(self, address: str) -> dict[str, router_pb2.Replica]:
        with meshwork.connect(address, timeout_s=5) as client:
            return {replica.name: replica for replica in client.router.list_replicas()}

    def ready(self) -> list[str]:
        return [
            name
            for name, replica in self.replicas(self.router_address).items()
            if replica.state == router_pb2.REPLICA_STATE_READY
        ]

    def events(self, subject: str = "", address: str = "") -> list[router_pb2.Event]:
        with meshwork.connect(address or self.router_address, timeout_s=5) as client:
            return list(client.router.list_events(subject=subject))

    def said(self, subject: str, words: str, address: str = "") -> bool:
        return any(words in event.message for event in self.events(subject, address))

    def answering(self, calls: int = 30) -> set[str]:
        with self.channel() as channel:
            stub = nlp_pb2_grpc.NlpServiceStub(channel)
            request = nlp_pb2.EmbedRequest(texts=["a"])
            return {stub.Embed(request, timeout=20).served_by.replica for _ in range(calls)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    running = Pair(tmp_path_factory.mktemp("pair"))
    try:
        running.begin()
        yield running
    finally:
        running.stop()


def test_routers_agree_on_one_leader(pair: Pair) -> None:
    def agree() -> bool:
        views = [pair.view(address) for address in (pair.router_address, pair.second)]
        leaders = [{router.name for router in view.routers if router.leader} for view in views]
        return leaders[0] == leaders[1] and len(leaders[0]) == 1 and not any(v.state.stale for v in views)

    until(agree, "the routers agree on one leader")


def test_a_replica_that_hangs_is_out_of_all_routers_snapshots_and_back_when_it_goes_on(pair: Pair) -> None:
    hung = pair.processes["nlp-2"]
    # What was late while the processes started says nothing yet.
    until(lambda: pair.said("", "leads"), "a leader was written down")
    hung.send_signal(signal.SIGSTOP)
    try:
        for address in (pair.router_address, pair.second):
            until(lambda: pair.replicas(address)["nlp-2"].HasField("ejection"), "it is ejected")  # noqa: B023
            ejection = pair.replicas(address)["nlp-2"].ejection
            assert ejection.reason == router_pb2.EJECTION_REASON_HUNG
            assert "silent for" in ejection.detail
            assert not ejection.overruled
        assert pair.answering() == {"nlp-1", "nlp-3"}
        until(lambda: pair.said("nlp-2", "ejected as hung"), "it is written down")
    finally:
        hung.send_signal(signal.SIGCONT)
    until(lambda: not pair.replicas(pair.second)["nlp-2"].HasField("ejection"), "it is let back")
    until(lambda: "nlp-2" in pair.answering(), "it takes traffic")
    until(lambda: pair.said("nlp-2", "takes traffic again"), "that is written down")


def test_a_replica_that_dies_is_told_from_one_that_leaves(pair: Pair) -> None:
    pair.kill("nlp-3")
    until(lambda: pair.said("nlp-3", "its lease lapsed, silent for"), "its end is written down")
    pair.start_replica("nlp-3", "minilm@1")
    until(lambda: "nlp-3" in pair.ready(), "it is back")


def test_another_router_leads_when_the_leader_dies_and_writes_that_down(pair: Pair) -> None:
    (leader,) = (router.name for router in pair.view(pair.second).routers if router.leader)
    first_leads = leader == "first"
    survivor = pair.second if first_leads else pair.router_address
    pair.kill("router" if first_leads else "second")
    until(lambda: pair.view(survivor).router.leader, "the other one leads")
    other = "second" if first_leads else "first"
    until(lambda: pair.said(other, f"leads, after {leader}", survivor), "it is written down")
    until(lambda: pair.said(leader, "it went silent", survivor), "so is the end of the one that led")
    if first_leads:
        pair.start_router()
    else:
        pair.start_second()
    assert pair.view(survivor).router.leader


def test_without_redis_routers_say_since_when_they_know_nothing_new_and_nothing_is_ejected(
    pair: Pair,
) -> None:
    def ejections() -> list[str]:
        kind = router_pb2.EVENT_KIND_REPLICA_EJECTED
        return [event.id for event in pair.events() if event.kind == kind]

    before = ejections()
    pair.valkey_process().send_signal(signal.SIGSTOP)
    try:
        until(lambda: pair.view(pair.router_address).state.stale, "the state is said to be stale")
        view = pair.view(pair.router_address)
        assert "Redis does not answer" in view.state.problem
        assert view.state.since.seconds > 0
        until(lambda: not pair.view(pair.router_address).router.leader, "nobody leads")
        assert pair.answering() == set(REPLICAS)
    finally:
        pair.valkey_process().send_signal(signal.SIGCONT)
    until(lambda: not pair.view(pair.router_address).state.stale, "the state is fresh")
    until(lambda: pair.said("", "Redis is back"), "that is written down")
    assert ejections() == before

"""kill -9 of any one process is followed by working calls, without a hand being raised."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from meshwork.errors import MeshworkError
from meshwork.recommendation.v1 import recommendation_pb2
from meshwork.supervisor.supervisor import gateways
from tests.mesh.conftest import Mesh

RECOVERY_S = 60  # the bound of the wait, not a claim about speed


def eventually(works: Callable[[], bool]) -> None:
    """Waits until `works`; errors of calls mean not yet."""
    deadline = time.monotonic() + RECOVERY_S
    last: MeshworkError | None = None
    while time.monotonic() < deadline:
        try:
            if works():
                return
        except MeshworkError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"still not working after {RECOVERY_S} s: {last!r}")


def every_domain_answers(mesh: Mesh) -> bool:
    with mesh.client() as client:
        client.vision.classify("samples/seven.png")
        client.nlp.embed("hello")
        client.speech.list_voices()
        client.translation.detect_language("hello world")
        client.recommendation.recommend(user="somebody")
    return True


def pid_of(mesh: Mesh, name: str) -> int:
    return next(p.pid for p in mesh.record().processes if name in (p.name, p.service))


def restarted(mesh: Mesh, name: str, old: int) -> bool:
    return any(
        p.pid not in (0, old) and p.state == "running"
        for p in mesh.record().processes
        if name in (p.name, p.service)
    )


@pytest.mark.parametrize("name", ["vision", "speech", "router", "valkey"])
def test_a_killed_process_comes_back_and_every_domain_answers(mesh: Mesh, name: str) -> None:
    old = pid_of(mesh, name)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: restarted(mesh, name, old))
    eventually(lambda: every_domain_answers(mesh))


def test_a_killed_gateway_comes_back(mesh: Mesh) -> None:
    (old,) = gateways(mesh.home)
    os.kill(old.pid, signal.SIGKILL)
    eventually(lambda: bool(gateways(mesh.home)) and gateways(mesh.home)[0].pid != old.pid)
    eventually(lambda: every_domain_answers(mesh))


@pytest.mark.usefixtures("two_nlp")
def test_of_two_replicas_one_may_be_killed_and_no_call_fails(mesh: Mesh) -> None:
    victim = pid_of(mesh, "nlp")
    with mesh.client() as client:
        for number in range(60):
            if number == 20:
                os.kill(victim, signal.SIGKILL)
            client.nlp.embed(f"call {number}")
    eventually(lambda: len(ready(mesh, "nlp")) == 2)


def ready(mesh: Mesh, service: str) -> list[str]:
    with mesh.client() as client:
        replicas = client.router.list_replicas(service=service)
    return [replica.name for replica in replicas if replica.state == 2]


def test_calls_go_on_while_the_router_is_stopped(mesh: Mesh) -> None:
    router = psutil.Process(pid_of(mesh, "router"))
    router.suspend()
    try:
        assert every_domain_answers(mesh)
    finally:
        router.resume()


def test_histories_survive_the_loss_of_valkey(mesh: Mesh) -> None:
    with mesh.client() as client:
        items = [entry.item for entry in client.recommendation.recommend(user="keeper", count=2).items]
        client.recommendation.record_events(
            [recommendation_pb2.Event(user="keeper", item=item) for item in items]
        )
        time.sleep(1.2)  # Valkey writes to disk once a second
        old = pid_of(mesh, "valkey")
        os.kill(old, signal.SIGKILL)
        eventually(lambda: restarted(mesh, "valkey", old))
        eventually(lambda: client.recommendation.recommend(user="keeper").history_size == 2)

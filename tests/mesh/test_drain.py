"""A replica that is scaled away finishes what it has; no caller notices."""

from __future__ import annotations

import threading
import time

from tests.mesh.conftest import Mesh


def test_scaling_down_under_load_loses_no_call(mesh: Mesh) -> None:
    assert mesh.run("scale", "translation=2").returncode == 0
    failures: list[Exception] = []
    replicas: set[str] = set()
    stop = threading.Event()
    calls = 0

    def caller() -> None:
        nonlocal calls
        with mesh.client() as client:
            while not stop.is_set():
                try:
                    answer = client.translation.detect_language("good morning to all of you")
                except Exception as error:
                    failures.append(error)
                    return
                replicas.add(answer.served_by.replica)
                calls += 1

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    try:
        until = time.monotonic() + 30
        while len(replicas) < 2 and not failures and time.monotonic() < until:
            time.sleep(0.01)  # the gateway learns of the second one a moment after it is ready
        assert mesh.run("scale", "translation=1").returncode == 0
    finally:
        stop.set()
        for thread in callers:
            thread.join(30)
    assert not failures
    assert len(replicas) == 2
    assert calls > 20

"""REST calls through the gateway while replicas come and go."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.interop.conftest import cards, said
from tests.mesh.gateway.conftest import Mesh, until

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]},
).encode()
CALLERS = 8


class Load:
    """Callers who ask for `vision/line` again and again, and what they got."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        self.served: Counter[str] = Counter()
        self.failures: list[str] = []

    def _call(self) -> None:
        while not self._stop.is_set():
            status, _, body = self._mesh.http("POST", "/v2/models/vision/line/infer", BODY)
            if status != 200:
                self.failures.append(f"{status} {body.decode()}")
                continue
            self.served[json.loads(body)["parameters"]["replica"]] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(timeout=30)

    def goes_on(self, *replicas: str, calls: int = 50) -> None:
        """Waits until each of `replicas` has served that many more calls."""
        before = self.served.copy()
        until(
            lambda: all(self.served[name] - before[name] >= calls for name in replicas),
            f"{replicas} serve",
        )


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_rest_call_is_lost_when_one_of_two_replicas_ends(mesh: Mesh, end: signal.Signals) -> None:
    name = f"vision-{end.name.lower()}"
    folder = mesh.folder / name
    folder.mkdir()
    mesh.environment |= {"MESHWORK_MODELS": cards(folder, "vision"), "MESHWORK_REPLICA": name}
    process = mesh.start(name, "-m", "tests.interop.tensor_service", "vision")
    said(mesh, name, "ready on")
    load = Load(mesh)
    with load.running():
        load.goes_on("vision", name)
        process.send_signal(end)
        process.wait(timeout=30)
        load.goes_on("vision")
    mesh.processes.pop(name)
    assert load.failures == []

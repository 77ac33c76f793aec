"""mosec: a Rust front end, Python workers over a socket; batches by size and time."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from mosec import Server, ValidationError, Worker

from benchmarks.peers import workloads
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()


class Model(Worker):
    """Bytes in, float32 bytes out."""

    def __init__(self) -> None:
        self._run = workloads.load(SETTINGS.workload, SETTINGS.threads)

    def deserialize(self, data: bytes) -> Any:
        """The input that `benchmarks.peers.http_wires.Mosec` sent."""
        if SETTINGS.workload == "image":
            return data
        try:
            return data.decode() if SETTINGS.workload == "text" else np.frombuffer(data, np.float32)
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def serialize(self, data: Any) -> bytes:
        """A row of the answer."""
        row: bytes = data.tobytes()
        return row

    def forward(self, data: list[Any]) -> list[Any]:
        """The whole batch at once."""
        return list(self._run(data))


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(SETTINGS.port), "--timeout", "10000"]
    server = Server()
    server.append_worker(
        Model,
        num=SETTINGS.workers,
        max_batch_size=SETTINGS.max_batch,
        max_wait_time=int(SETTINGS.max_wait_ms),
    )
    server.run()

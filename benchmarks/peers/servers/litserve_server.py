"""LitServe: FastAPI, workers behind a queue; batches by size and time."""

from __future__ import annotations

import base64
from typing import Any

import litserve
import numpy as np

from benchmarks.peers import workloads
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()


class Api(litserve.LitAPI):  # type: ignore[misc]
    """`{"x": ...}` in, a list of numbers out."""

    def setup(self, device: str) -> None:
        """Loads the network."""
        self._run = workloads.load(SETTINGS.workload, SETTINGS.threads)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # FastAPI would act on a type
        """Text, numbers, or a picture in base64."""
        return base64.b64decode(request["x"]) if SETTINGS.workload == "image" else request["x"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """As the function takes it."""
        return inputs

    def predict(self, inputs: list[Any]) -> Any:
        """The whole batch at once."""
        return self._run(np.asarray(inputs, np.float32) if SETTINGS.workload == "vector" else inputs)

    def unbatch(self, output: Any) -> list[Any]:
        """A row each."""
        return list(output)

    def encode_response(self, output: Any) -> list[float]:
        """As JSON."""
        row: list[float] = output.tolist()
        return row


if __name__ == "__main__":
    litserve.LitServer(
        Api(max_batch_size=SETTINGS.max_batch, batch_timeout=SETTINGS.max_wait_ms / 1000),
        accelerator="cpu",
        devices=1,
        workers_per_device=SETTINGS.workers,
        timeout=30,
    ).run(
        host="127.0.0.1",
        port=SETTINGS.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )

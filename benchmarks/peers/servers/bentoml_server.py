"""BentoML: Starlette, workers that batch adaptively to hold a latency."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from benchmarks.peers import workloads
from benchmarks.peers.places import ROOT
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()
LATENCY_MS = 1000  # a bound, not a wait
SERVICE: dict[str, Any] = {"workers": SETTINGS.workers, "traffic": {"timeout": 30, "max_concurrency": 256}}
BATCHED: dict[str, Any] = {
    "batchable": True,
    "max_batch_size": SETTINGS.max_batch,
    "max_latency_ms": LATENCY_MS,
}


class _Model:
    def __init__(self) -> None:
        self._run = workloads.load(SETTINGS.workload, SETTINGS.threads)


class _Text(_Model):
    @bentoml.api(**BATCHED)  # type: ignore[untyped-decorator]
    def predict(self, inputs: list[str]) -> list[list[float]]:
        """Scores of each text."""
        rows: list[list[float]] = self._run(inputs).tolist()
        return rows


class _Vector(_Model):
    @bentoml.api(**BATCHED)  # type: ignore[untyped-decorator]
    def predict(self, inputs: list[list[float]]) -> list[list[float]]:
        """Product of each vector."""
        rows: list[list[float]] = self._run(np.asarray(inputs, np.float32)).tolist()
        return rows


class _Image(_Model):
    @bentoml.api(**BATCHED)  # type: ignore[untyped-decorator]
    def predict(self, inputs: list[Path]) -> list[list[float]]:
        """Classes of each picture; BentoML keeps an upload as a file."""
        rows: list[list[float]] = self._run([path.read_bytes() for path in inputs]).tolist()
        return rows


Peer = bentoml.service(**SERVICE)({"text": _Text, "vector": _Vector, "image": _Image}[SETTINGS.workload])

if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "1"
    service = "benchmarks.peers.servers.bentoml_server:Peer"
    where = ["--working-dir", str(ROOT), "--host", "127.0.0.1", "--port", str(SETTINGS.port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service, *where])

"""What the protocol's ModelStatistics tells: how often a model ran for raw requests, and how long it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from meshwork.type.v1 import served_by_pb2


@dataclass(slots=True)
class ModelUse:
    """The requests of one model version since it was first asked for."""

    rows: int = 0
    runs: float = 0.0  # of the device: a request that shared one with two others counts as a third
    answered: int = 0
    failed: int = 0
    answered_s: float = 0.0
    failed_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    last_ms: int = 0  # since 1970

    def success(self, rows: int, seconds: float, served_by: served_by_pb2.ServedBy) -> None:
        """Counts a request that was answered."""
        self.rows += rows
        self.runs += 1 / max(served_by.batch_size, 1)
        self.answered += 1
        self.answered_s += seconds
        self.queue_s += served_by.queue_time.ToNanoseconds() / 1e9
        self.compute_s += served_by.compute_time.ToNanoseconds() / 1e9
        self.last_ms = int(time.time() * 1000)

    def failure(self, seconds: float) -> None:
        """Counts a request that failed."""
        self.failed += 1
        self.failed_s += seconds

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """The protocol's ModelStatistics."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": round(self.runs),
            "inference_stats": {
                "success": _duration(self.answered, self.answered_s),
                "fail": _duration(self.failed, self.failed_s),
                "queue": _duration(self.answered, self.queue_s),
                "compute_infer": _duration(self.answered, self.compute_s),
            },
        }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}

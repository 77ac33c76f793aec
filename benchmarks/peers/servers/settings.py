"""What the environment tells a peer's server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a peer is set; each field is `BENCH_` and its name in capitals."""

    workload: str  # text, vector or image
    port: int = 0  # on loopback; the two after it are the server's too
    workers: int = 2  # processes that hold the network
    threads: int = 1  # of torch, in each of them
    max_batch: int = 8  # items in a forward pass
    max_wait_ms: float = 2.0  # that a batch waits for more

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads them."""
        return cls(
            workload=environment["BENCH_WORKLOAD"],
            port=int(environment["BENCH_PORT"]),
            workers=int(environment["BENCH_WORKERS"]),
            threads=int(environment["BENCH_THREADS"]),
            max_batch=int(environment["BENCH_MAX_BATCH"]),
            max_wait_ms=float(environment["BENCH_MAX_WAIT_MS"]),
        )

    def environment(self) -> dict[str, str]:
        """What `from_environment` reads."""
        return {f"BENCH_{name.upper()}": str(value) for name, value in asdict(self).items()}

"""A server that takes part: how it is started, spoken to, and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.peers import processes
from benchmarks.peers.install import python
from benchmarks.peers.places import LOGS, ROOT
from benchmarks.peers.servers.settings import Settings
from meshwork.errors import FailedPrecondition
from meshwork.supervisor.ports import check_free, free_port

Loads = dict[int, dict[str, Any]]
"""By calls in flight: the fields of `loadgen.Load`."""
LOAD_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one start of a contender gave."""

    ready_s: float  # from the start to the first answer
    loads: Loads


class Contender(ABC):
    """A server, its settings, and the wire to it."""

    name: str
    workload: str
    wire: str  # module:Class

    @abstractmethod
    def running(self, tag: str) -> Any:
        """A context manager: starts it with the tag in its environment, gives its address, ends it."""

    def measure(self, in_flight: Sequence[int], *, windows: int, window_s: float, warm_s: float) -> Result:
        """Starts it, loads it, ends it.

        Raises:
            RuntimeError: it did not start or answered nothing; says what the generator said.
        """
        # Told to stop, we raise, so that what was started is ended.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
        tag = f"{self.name}-{uuid.uuid4().hex[:8]}"
        began = time.time()
        with self.running(tag) as address:
            command = [
                *(sys.executable, "-m", "benchmarks.peers.loadgen"),
                *("--wire", self.wire, "--workload", self.workload, "--address", address, "--tag", tag),
                *("--windows", str(windows), "--window-s", str(window_s), "--warm-s", str(warm_s)),
                *("--in-flight", *(str(count) for count in in_flight)),
            ]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr[-1500:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        return Result(
            ready_s=round(said["ready_at"] - began, 1),
            loads={int(count): load for count, load in said["loads"].items()},
        )


@contextmanager
def started(tag: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Path]:
    """Runs a process, gives the file that it logs to, and ends it with all that it started."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{tag.rpartition('-')[0]}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, processes.TAG: tag},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield path
        finally:
            processes.end(tag, process.pid)
            process.wait(10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer(Contender):
    """Another's server, in its virtual environment."""

    name: str
    workload: str
    wire: str
    settings: Settings = field(repr=False)

    @contextmanager
    def running(self, tag: str) -> Iterator[str]:
        """See `Contender.running`."""
        settings = replace(self.settings, port=_three_free_ports())
        environment = {
            **settings.environment(),
            "OMP_NUM_THREADS": str(settings.threads),
            "PATH": f"{python(self.name).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [str(python(self.name)), "-m", f"benchmarks.peers.servers.{self.name}_server"]
        with started(tag, command, environment):
            yield f"127.0.0.1:{settings.port}"


def _three_free_ports() -> int:
    """The first of three in a row."""
    while True:
        first = free_port()
        try:
            for port in (first + 1, first + 2):
                check_free("127.0.0.1", port)
        except (FailedPrecondition, OverflowError):
            continue
        return first

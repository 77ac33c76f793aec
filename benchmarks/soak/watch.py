"""What the processes of a mesh hold: memory, threads, file descriptors, asyncio tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from meshwork.supervisor.home import Home, alive
from meshwork.supervisor.supervisor import gateways

_PATIENCE_S = 2.0  # for the answer of a process


@dataclass(frozen=True, slots=True)
class Held:
    """What a role's processes hold together."""

    rss_mb: float
    threads: int
    fds: int
    tasks: int  # of asyncio, in the processes that have a loop


Sample = Mapping[str, Held]
"""By role: a service, `router`, `valkey`, `gateway` or `supervisor`; helpers count with who started them."""


def sample(home: Home, probe: Path) -> Sample:
    """Asks all processes of the mesh, which should be at rest.

    Args:
        probe: the folder that BENCH_PROBE named when the mesh started.
    """
    return {role: _held(processes, probe) for role, processes in _roles(home).items()}


def _roles(home: Home) -> dict[str, list[psutil.Process]]:
    record = home.running()
    assert record is not None, "the mesh is gone"
    roles: dict[str, list[psutil.Process]] = defaultdict(list)
    for known in record.processes:
        process = alive(known)
        if process is not None:
            helpers = [each for each in process.children(recursive=True) if "envoy" not in each.name()]
            roles[known.service or known.role].extend([process, *helpers])
    roles["supervisor"].append(psutil.Process(record.pid))
    roles["gateway"].extend(gateways(home))
    return roles


def _held(processes: Sequence[psutil.Process], probe: Path) -> Held:
    rss, threads, fds, tasks = 0, 0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            rss += process.memory_info().rss
            threads += process.num_threads()
            fds += process.num_fds()
            tasks += _tasks(process.pid, probe)
    return Held(round(rss / 1e6, 2), threads, fds, tasks)


def _tasks(process: int, probe: Path) -> int:
    file = probe / str(process)
    if not file.exists():
        return 0  # not Python, or forked from one that is
    before = file.stat().st_mtime_ns
    os.kill(process, signal.SIGUSR1)
    ends = time.monotonic() + _PATIENCE_S
    while file.stat().st_mtime_ns == before and time.monotonic() < ends:
        time.sleep(0.01)
    return max(0, int(file.read_text(encoding="utf-8")))


def total(taken: Sample) -> Held:
    """Of all roles together."""
    return Held(
        round(sum(held.rss_mb for held in taken.values()), 1),
        sum(held.threads for held in taken.values()),
        sum(held.fds for held in taken.values()),
        sum(held.tasks for held in taken.values()),
    )


def drift(samples: Sequence[Held]) -> dict[str, float]:
    """By what percent more is held at the end than after the warm-up, for each kind of thing.

    The first quarter of the samples is the warm-up; medians of the last and the second are compared.
    """
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples[:1], samples[-quarter:]
    found = {}
    for kind in Held.__dataclass_fields__:
        before = float(median(getattr(held, kind) for held in early))
        after = float(median(getattr(held, kind) for held in late))
        found[kind] = round((after / before - 1) * 100, 2) if before else after
    return found


def by_role(samples: Sequence[Sample]) -> Iterator[tuple[str, list[Held]]]:
    """The samples of each role that was there all the time."""
    for role in samples[0]:
        if all(role in taken for taken in samples):
            yield role, [taken[role] for taken in samples]

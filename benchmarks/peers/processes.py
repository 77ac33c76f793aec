"""The processes of a server under test: found by a tag in their environment, wherever they moved to.

Servers start helpers that leave their process group or get another parent, so the tree alone would
miss some. Only processes that carry the tag are counted, and only those are ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

TAG = "BENCH_TAG"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def tagged(tag: str) -> list[int]:
    """Processes that were started with `BENCH_TAG=tag`."""
    wanted = f"{TAG}={tag}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or another user's
    return found


def cpu_s(processes: Iterable[int]) -> float:
    """Seconds of CPU that the processes have used, in user and system mode, all threads."""
    ticks = 0
    for process in processes:
        try:
            stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        after_name = stat.rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / _TICKS_PER_S


def machine_cpu_s() -> float:
    """Seconds that the machine's cores were busy, since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def end(tag: str, first: int) -> None:
    """Interrupts `first`, then ends what is left of the tag, harder each time."""
    for sent, processes in ((signal.SIGINT, [first]), (signal.SIGTERM, None), (signal.SIGKILL, None)):
        for process in tagged(tag) if processes is None else processes:
            try:
                os.kill(process, sent)
            except ProcessLookupError:
                continue
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            if not [process for process in tagged(tag) if not _zombie(process)]:
                return
            time.sleep(0.1)


def _zombie(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"

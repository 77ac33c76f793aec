"""Put on the path of the mesh's Python processes: on SIGUSR1 each writes how many asyncio tasks it has.

Python imports a module of this name at its start, so the processes run as they are. Each has a file,
named by its pid, in the folder that BENCH_PROBE names.
"""

import asyncio
import os
import signal
from pathlib import Path


def _report(*_: object) -> None:
    try:
        count = len(asyncio.all_tasks())
    except RuntimeError:
        count = 0  # no loop runs
    _write(count)


def _write(count: int) -> None:
    file = Path(os.environ["BENCH_PROBE"]) / str(os.getpid())
    fresh = file.with_suffix(".new")
    fresh.write_text(str(count), encoding="utf-8")
    fresh.replace(file)


if os.environ.get("BENCH_PROBE"):
    signal.signal(signal.SIGUSR1, _report)
    _write(-1)

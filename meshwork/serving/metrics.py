"""What the serving runtime counts, for Prometheus.

Labels are names that the operator chose (models, devices) or members of fixed sets, never a caller's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

BATCH_ITEMS = Histogram("meshwork_batch_items", "Items in a batch.", ("model", "device"), buckets=_ITEMS)
BATCH_COST = Histogram(
    "meshwork_batch_cost",
    "Cost of a batch, in the task's unit.",
    ("model", "device"),
    buckets=tuple(4.0**power for power in range(9)),
)
PADDING = Histogram(
    "meshwork_batch_padding_ratio",
    "Share of a batch that is padding.",
    ("model", "device"),
    buckets=(0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
)
COMPUTE = Histogram(
    "meshwork_compute_seconds", "Time of a batch on its device.", ("model", "device"), buckets=_SECONDS
)
QUEUE = Histogram(
    "meshwork_queue_seconds", "Time of an item in the queue.", ("model", "device"), buckets=_SECONDS
)
REFUSED = Counter("meshwork_refused", "Calls refused at the door.", ("model", "cause"))
LOADS = Counter("meshwork_model_loads", "Loads of a model.", ("model", "outcome"))
UNLOADS = Counter("meshwork_model_unloads", "Unloads of a model.", ("model", "cause"))
MEMORY = Gauge("meshwork_device_memory_bytes", "Memory that models take on a device.", ("device", "model"))
LOOP_LAG = Histogram(
    "meshwork_event_loop_lag_seconds",
    "How late the event loop wakes a sleeper.",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.02, 0.05, 0.1, 0.5),
)


async def watch_loop(late: Callable[[float], None] = lambda _: None, period_s: float = 0.02) -> None:
    """Measures the event loop's lag until cancelled, and tells `late` of each, in seconds."""
    clock = asyncio.get_running_loop().time
    while True:
        wanted = clock() + period_s
        await asyncio.sleep(period_s)
        lag_s = max(0.0, clock() - wanted)
        LOOP_LAG.observe(lag_s)
        late(lag_s)

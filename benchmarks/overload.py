"""What a mesh does when it is offered more than it can do: answers, refusals, and how soon it is over.

Two replicas hold their device for 10 ms an item, so that the processor is free for the rest. What they
can do (capacity) is measured first: answers a second while more is offered than that and every caller
is patient. Then callers through the gateway, each at its own pace whatever becomes of its calls (open
loop), offer 0.5 to 5 times that, each call with a deadline of 1 s. Goodput counts answers within the
deadline. At the end five times the capacity stops at once beside callers who offer half of it, and go on.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.steady.mesh import HELD, running
from meshwork.chaos.caller import OK, Call, Plan
from meshwork.chaos.load import Load
from meshwork.chaos.mesh import Mesh
from meshwork.chaos.report import percentile
from meshwork.supervisor.home import Home

REPLICAS = 2
HOLD_S = 0.01
FACTORS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
DEADLINE_S = 1.0
PATIENT_S = 20.0
SETTLE_S = 2.0  # of each turn that are not counted: weights and learned times settle
CALLERS = 100
REFUSED = "RESOURCE_EXHAUSTED"
BIN_S = 0.5
NORMAL = 2.0  # times the p99 at the same load before, that a bin's p99 may be


def plan(gateway: str, rate: float, deadline_s: float) -> Plan:
    """Callers of one light method through the gateway."""
    return Plan(
        paths={"gateway": {"address": gateway}},
        unary=["nlp.Embed"],
        streams=[],
        callers=CALLERS,
        rate=rate,
        stream_callers=0,
        stream_rate=1.0,
        deadline_s=deadline_s,
    )


async def until_called(load: Load) -> None:
    """Waits until the callers are at work."""
    while not load.calls:
        load.check()
        await asyncio.sleep(0.02)


async def turn(gateway: str, rate: float, window_s: float, deadline_s: float) -> tuple[list[Call], float]:
    """The calls that were begun within a window of steady load, and when it began."""
    async with Load(plan(gateway, rate, deadline_s)) as load:
        await until_called(load)
        await asyncio.sleep(SETTLE_S)
        began = time.monotonic()
        await asyncio.sleep(window_s)
        ended = time.monotonic()
        await load.stop()
    return [call for call in load.calls if began <= call.started < ended], began


async def capacity(gateway: str, window_s: float) -> float:
    """Answers a second while a fifth more is offered than the devices can do."""
    async with Load(plan(gateway, 1.2 * REPLICAS / HOLD_S, PATIENT_S)) as load:
        await until_called(load)
        await asyncio.sleep(SETTLE_S)
        began = time.monotonic()
        await asyncio.sleep(window_s)
        ended = time.monotonic()
        await load.stop()
    return sum(began <= call.started + call.took_s < ended for call in load.calls if call.code == OK) / (
        ended - began
    )


def milliseconds(took_s: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the worst."""
    ordered = sorted(took_s)
    return {
        "p50_ms": round(percentile(ordered, 0.5) * 1e3, 1),
        "p99_ms": round(percentile(ordered, 0.99) * 1e3, 1),
        "worst_ms": round(percentile(ordered, 1.0) * 1e3, 1),
    }


def judged(calls: list[Call], window_s: float, most: float) -> dict[str, Any]:
    """What became of the calls of a turn."""
    good = [call for call in calls if call.code == OK and call.took_s <= DEADLINE_S]
    refused = [call for call in calls if call.code == REFUSED]
    other = Counter(f"{call.code} {call.message[:120]}" for call in calls if call.code not in (OK, REFUSED))
    return {
        "offered": round(len(calls) / window_s, 1),
        "goodput": round(len(good) / window_s, 1),
        "goodput_share": round(len(good) / window_s / most, 3),
        "answers": milliseconds([call.took_s for call in good]),
        "refused": len(refused),
        "refusals": milliseconds([call.took_s for call in refused]),
        "refused_without_retry_info": sum(call.again_s <= 0 for call in refused),
        "other": dict(other.most_common(5)),
        "replicas": dict(Counter(call.replica for call in good)),
    }


async def recovery(gateway: str, most: float, normal_p99_ms: float) -> tuple[float, list[float]]:
    """Seconds from the overload's end until latencies are normal, and p99 in ms of each half second."""
    async with Load(plan(gateway, 0.5 * most, DEADLINE_S)) as steady:
        async with Load(plan(gateway, 4.5 * most, DEADLINE_S)) as flood:
            await until_called(flood)
            await asyncio.sleep(SETTLE_S + 2)
        ended = time.monotonic()
        await asyncio.sleep(8.0)
        await steady.stop()
    bins: dict[int, list[Call]] = {}
    for call in steady.calls:
        if ended <= call.started < ended + 8.0:
            bins.setdefault(int((call.started - ended) / BIN_S), []).append(call)
    p99 = [
        1e4 if any(call.code != OK for call in calls) else milliseconds([c.took_s for c in calls])["p99_ms"]
        for _, calls in sorted(bins.items())
    ]
    unwell = [index for index, value in enumerate(p99) if value > NORMAL * normal_p99_ms]
    return BIN_S * (unwell[-1] + 1 if unwell else 0), p99


async def measure(home: Home, window_s: float) -> dict[str, Any]:
    """All turns."""
    async with Mesh(home) as mesh:
        gateway = mesh.gateways[0]
    figures: dict[str, Any] = {}
    most = await capacity(gateway, window_s)
    figures["capacity"] = round(most, 1)
    for factor in FACTORS:
        calls, _ = await turn(gateway, factor * most, window_s, DEADLINE_S)
        figures[f"x{factor:g}"] = judged(calls, window_s, most)
    normal = figures["x0.5"]["answers"]["p99_ms"]
    figures["recovery_s"], figures["p99_ms_since"] = await recovery(gateway, most, normal)
    return figures


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--window-s", type=float, default=8.0, help="seconds of a turn that are counted")
    options = parser.parse_args()
    before = machine()
    # Replicas import the model from this checkout.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        services = {"nlp": {"replicas": REPLICAS, "models": [HELD]}}
        with running(Path(folder), services) as home:
            figures = asyncio.run(measure(home, options.window_s))
    three = figures["x3"]
    targets: Targets = {
        "goodput_share_at_3x": (three["goodput_share"], ">=", 0.9),
        "goodput_share_at_5x": (figures["x5"]["goodput_share"], ">=", 0.9),
        "refusal_p99_ms_at_3x": (three["refusals"]["p99_ms"], "<=", 50.0),
        "refused_without_retry_info": (three["refused_without_retry_info"], "<=", 0),
        "neither_answered_nor_refused_at_3x": (sum(three["other"].values()), "<=", 0),
        "recovery_s": (figures["recovery_s"], "<=", 5.0),
    }
    finish("overload", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()

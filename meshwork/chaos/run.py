"""One fault under load: warm up, before, during, after; and the report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from meshwork.channel import XDS
from meshwork.chaos.caller import Plan
from meshwork.chaos.calls import STREAMS, UNARY, answered
from meshwork.chaos.faults import Fault
from meshwork.chaos.load import Load
from meshwork.chaos.mesh import POLL_S, Mesh
from meshwork.chaos.report import Report, Times, judge
from meshwork.chaos.rotation import Rotation
from meshwork.errors import FailedPrecondition, MeshworkError
from meshwork.router.v1.router_pb2 import Replica

WARM_S = 60.0  # the longest to wait for the first answer of every kind
GATEWAYS, PROXYLESS = "gateway", "proxyless"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How much load, and for how long."""

    rate: float = 100.0  # unary calls a second
    callers: int = 20
    stream_rate: float = 4.0
    stream_callers: int = 4
    before_s: float = 4.0
    after_s: float = 4.0
    deadline_s: float = 10.0


async def load_plan(mesh: Mesh, pace: Pace) -> Plan:
    """Every light call that the mesh's models answer, by every way that leads to them.

    Raises:
        FailedPrecondition: no model answers one of them.
    """
    try:
        calls = answered(await mesh.replicas())
    except MeshworkError as error:
        raise FailedPrecondition(f"no router of the mesh answers: {error}") from error
    if not calls:
        known = ", ".join((*UNARY, *STREAMS))
        raise FailedPrecondition(f"no model of the mesh answers one of the light calls: {known}")
    paths = {
        GATEWAYS: {"address": ",".join(mesh.gateways)},
        PROXYLESS: {"address": XDS, "router": ",".join(mesh.routers)},
    }
    return Plan(
        paths=paths,
        unary=[name for name in calls if name in UNARY],
        streams=[name for name in calls if name in STREAMS],
        callers=pace.callers,
        rate=pace.rate,
        stream_callers=pace.stream_callers,
        stream_rate=pace.stream_rate,
        deadline_s=pace.deadline_s,
    )


async def run(
    fault: Fault, pace: Pace, *, least_calls: int = 0, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Breaks, counts, mends.

    Args:
        fault: one whose target was chosen.
        least_calls: goes on after the fault until there were so many unary calls.
        say: told what happens.

    Raises:
        MeshworkError: the fault could not be begun, or the mesh was not well before it.
    """
    mesh = fault.mesh
    plan = await load_plan(mesh, pace)
    try:
        await fault.prepare()
        replicas = await mesh.serving()
        pid = next((each.pid for each in replicas if each.name == fault.victim), 0)
        rotation = Rotation(mesh, fault.victim, fault.address, pid)
        async with Load(plan) as load:
            await _warm(load, plan, replicas)
            began = time.monotonic()
            say(f"{len(replicas)} replicas answer; {pace.rate:g} calls a second for {pace.before_s:g} s")
            await asyncio.sleep(pace.before_s)
            broken, mended, reason = await _break(fault, rotation, say)
            least = [call for call in load.calls if call.name in UNARY and call.started >= began]
            rest_s = max(pace.after_s, (least_calls - len(least)) / pace.rate)
            say(f"put back; {rest_s:.0f} s more of calls")
            await asyncio.sleep(rest_s)
            load.check()
            ended = time.monotonic()
            await load.stop()
        times = Times(
            began=began,
            broken=broken,
            mended=mended,
            ended=ended,
            back=rotation.back,
            listed_until=min(rotation.healthy_until, mended) if fault.victim else 0.0,
        )
        return judge(fault.name, fault.subject, fault.victim, times, load.calls, list(STREAMS), reason)
    finally:
        await fault.clear()


async def _break(fault: Fault, rotation: Rotation, say: Callable[[str], None]) -> tuple[float, float, str]:
    """Gives when the fault began, when it ended, and why routers ejected the replica."""
    watching = asyncio.create_task(rotation.run()) if fault.victim else None
    try:
        say(f"now: {fault.says()}")
        broken = time.monotonic()
        await fault.begin()
        await asyncio.sleep(max(0.0, broken + fault.duration_s - time.monotonic()))
    finally:
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        mended = time.monotonic()
        await asyncio.shield(fault.end())
    return broken, mended, rotation.reason


async def _warm(load: Load, plan: Plan, replicas: list[Replica]) -> None:
    """Waits until every kind of call was answered by every way, and every replica that can has answered.

    Raises:
        FailedPrecondition: one was not in time; tells the error that came instead.
    """
    give_up = time.monotonic() + WARM_S
    paths = list(plan.paths)
    wanted = {
        (path, names[(index // len(paths)) % len(names)])
        for names, count in ((plan.unary, plan.callers), (plan.streams, plan.stream_callers))
        for index in range(count if names else 0)
        for path in [paths[index % len(paths)]]
    }
    while True:
        load.check()
        fine = [call for call in load.calls if call.code == "OK"]
        missing = wanted - {(call.path, call.name) for call in fine}
        telling = {call.name.partition(".")[0] for call in fine if call.replica}
        silent = {each.name for each in replicas if each.service in telling} - {call.replica for call in fine}
        if not missing and not silent:
            return
        if time.monotonic() > give_up:
            errors = [
                f"{call.path} {call.name}: {call.code} {call.message}" for call in load.calls if call.message
            ]
            raise FailedPrecondition(
                f"before any fault, within {WARM_S:g} s: no answer to {sorted(missing)}, "
                f"none by {sorted(silent)}; last error: {errors[-1] if errors else 'none'}"
            )
        await asyncio.sleep(POLL_S)

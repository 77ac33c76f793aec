"""No fault of the table loses a call: each one under load on a small mesh with two gateways, counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest

from benchmarks.steady.mesh import ROOT, light_services, running
from meshwork.chaos.faults import table
from meshwork.chaos.mesh import Mesh
from meshwork.chaos.run import Pace, run
from meshwork.supervisor.home import Home
from meshwork.supervisor.leftovers import gateway_index, gateways
from meshwork.supervisor.probe import unreachable
from meshwork.supervisor.watchdog import PROBE_S

# A call that waits for a hung replica until the end is lost: these faults outlast it.
PACE = Pace(rate=100, callers=24, stream_rate=4, stream_callers=4, before_s=0.5, after_s=0.5, deadline_s=5)
LASTS_S = {"hang": 5.5, "partition": 5.5, "slow": 9.0}
SHORTEST_S = 1.5
BACK_S = 40.0  # the longest until what was put right is back


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with running(tmp_path_factory.mktemp("chaos"), light_services(nlp=3, translation=1), gateways=2) as home:
        yield home


# redis-emptied is counted where the command is tried.
@pytest.mark.parametrize("name", [name for name in table() if name != "redis-emptied"])
async def test_a_fault_loses_no_call(home: Home, name: str) -> None:
    async with Mesh(home) as mesh:
        fault = table()[name](mesh, duration_s=LASTS_S.get(name, SHORTEST_S))
        await fault.choose("" if name == "gateway-down" else "nlp", force=False)
        report = await run(fault, PACE)
        assert (report.lost, report.streams_lost) == (0, 0), report
        assert report.during.calls > 0
        if name == "slow":
            assert "ms an item of echo@1 where its peers need" in report.ejection
            seen = await mesh.clients[0].router.list_events(subject=fault.victim)
            assert any("ejected as slow" in event.message for event in seen)
            await until(lambda: serves(mesh, fault.victim))
        there = await mesh.serving("nlp")
    assert len(there) >= 2  # what was broken is back, or on its way


async def test_a_router_and_a_gateway_that_hang_are_replaced_and_that_is_written_down(home: Home) -> None:
    async with Mesh(home) as mesh:
        router = mesh.process("router-2")
        (envoy,) = (each for each in gateways(home) if gateway_index(each) == 0)
        hung = {"router-2", f"gateway {mesh.gateways[0]}"}
        # One that never answered is starting, not hung: each must have been seen to answer.
        await asyncio.sleep(3 * PROBE_S)
        for process in (router, envoy):
            process.suspend()
        try:
            await until(lambda: gone(router))
            await until(lambda: gone(envoy))
        finally:
            for process in (router, envoy):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        async def are_back() -> bool:
            running = {each.name: each.pid for each in mesh.processes("router")}
            events = await mesh.clients[0].router.list_events()
            # Replicas that the faults before had hang are told of too.
            told = {event.subject for event in events if "hung" in event.message}
            serve = await unreachable(mesh.gateways[0], ["nlp"]) == []
            return running["router-2"] not in (0, router.pid) and told >= hung and serve

        await until(are_back)


async def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def serves(mesh: Mesh, name: str) -> bool:
    return name in {each.name for each in await mesh.serving()}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(BACK_S):
        while not await condition():
            await asyncio.sleep(0.05)


def chaos(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "meshwork", "chaos", *words],
        env={**os.environ, "MESHWORK_HOME": str(home.root)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_command_reports_what_it_counted(home: Home) -> None:
    done = chaos(home, "redis-emptied", "--duration", "1", "--rate", "50", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)
    assert report["fault"] == "redis-emptied"
    assert report["calls"] > 50
    assert (report["lost"], report["streams_lost"]) == (0, 0)


def test_the_command_refuses_what_has_no_peer_and_says_what_to_do(home: Home) -> None:
    done = chaos(home, "kill", "translation", "--yes")
    assert done.returncode == 1
    assert "meshwork scale translation=2" in done.stderr
    unknown = chaos(home, "hang", "sight", "--yes")
    assert unknown.returncode == 1
    assert "there are: nlp" in unknown.stderr


def test_a_hung_replica_goes_on_when_the_command_is_stopped(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "meshwork", "chaos", "hang", "nlp", "--duration", "100", "--yes"],
        env={**os.environ, "MESHWORK_HOME": str(home.root)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = next(int(now[1]) for line in process.stdout if (now := re.search(r"now: .*pid (\d+)", line)))
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert psutil.Process(pid).status() != psutil.STATUS_STOPPED


def test_the_command_asks_first_and_does_nothing_unless_told(home: Home) -> None:
    done = chaos(home, "kill", "nlp")
    assert "with SIGKILL" in done.stdout
    assert "calls a second" not in done.stdout

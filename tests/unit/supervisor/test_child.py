from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from meshwork.supervisor.child import Child, backoff_s
from meshwork.supervisor.home import Home, alive


def child_of(folder: Path, script: str, on_crash: Callable[[Child], None] = lambda _: None) -> Child:
    home = Home(folder)
    home.make()
    return Child(
        home,
        "worker-1",
        "replica",
        [sys.executable, "-c", script],
        {},
        on_change=lambda: None,
        on_crash=on_crash,
    )


async def running(child: Child) -> None:
    while child.record().state != "running":
        await asyncio.sleep(0.01)


def test_backoff_doubles_up_to_its_bound() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 30.0]


async def test_a_child_that_ends_is_started_again_and_its_last_words_are_kept(tmp_path: Path) -> None:
    crashes: asyncio.Queue[Child] = asyncio.Queue()
    child = child_of(tmp_path, "print('last words'); raise SystemExit(3)", crashes.put_nowait)
    await crashes.get()
    again = await crashes.get()
    assert again.last_exit == "exit status 3"
    assert again.crashes == 2
    assert again.restarts == 1
    assert Home(tmp_path).last_lines("worker-1", 1) == ["last words"]
    await child.stop(5)


async def test_stopping_ends_the_process_and_starts_no_other(tmp_path: Path) -> None:
    child = child_of(tmp_path, "import time; time.sleep(60)")
    await running(child)
    process = alive(child.record())
    assert process is not None
    await child.stop(5)
    assert not process.is_running()
    assert child.record().state == "stopped"


async def test_a_process_that_ignores_sigterm_is_killed_after_the_bound(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "
        "time.sleep(60)"
    )
    child = child_of(tmp_path, script)
    while Home(tmp_path).last_lines("worker-1", 1) != ["up"]:
        await asyncio.sleep(0.01)
    process = alive(child.record())
    assert process is not None
    await child.stop(0.2)
    assert not process.is_running()


async def test_stopping_while_it_backs_off_does_not_wait(tmp_path: Path) -> None:
    crashes: asyncio.Queue[Child] = asyncio.Queue()
    child = child_of(tmp_path, "raise SystemExit(1)", crashes.put_nowait)
    await crashes.get()
    await child.stop(5)
    assert child.record().state == "stopped"


async def test_a_command_that_cannot_be_started_is_tried_again_and_can_be_stopped(tmp_path: Path) -> None:
    home, crashes = Home(tmp_path), asyncio.Queue[Child]()
    child = Child(
        home,
        "worker-1",
        "replica",
        [str(tmp_path / "no such command")],
        {},
        on_change=lambda: None,
        on_crash=crashes.put_nowait,
    )
    crashed = await crashes.get()
    assert crashed.last_exit == "exit status 127"
    await child.stop(1)


async def test_a_replica_that_ends_well_was_told_to_and_is_no_crash(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    done: asyncio.Queue[Child] = asyncio.Queue()
    crashes: list[Child] = []
    child = Child(
        home,
        "worker-1",
        "replica",
        [sys.executable, "-c", ""],
        {},
        on_change=lambda: None,
        on_crash=crashes.append,
        on_done=done.put_nowait,
    )
    assert await done.get() is child
    assert child.record().state == "stopped"
    assert not crashes
    await child.stop(5)

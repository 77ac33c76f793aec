"""How a process of the mesh runs, and how it learns that it should stop: by signal, or without its parent."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PARENT_VARIABLE = "MESHWORK_PARENT_PID"

log = logging.getLogger(__name__)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` on uvloop, at a tenth less CPU a call than asyncio's own loop; on that without it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def spare_the_collector() -> None:
    """Takes what lives now out of garbage collection, and has the collector look less often.

    Modules and weights are hundreds of thousands of objects that never die; a look through them all
    stops every call for some 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process at once.

    Args:
        at_once: called before that end, for what must not be left behind.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    came = False  # `stop` alone does not tell: a parent that went, or an order, sets it too

    def signalled(number: signal.Signals) -> None:
        nonlocal came
        if came:
            try:
                at_once()
            finally:
                os._exit(128 + number)
        came = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled, number)
    return stop


async def watch_parent(stop: asyncio.Event) -> None:
    """Sets `stop` once the process that MESHWORK_PARENT_PID names is no longer our parent.

    Without the variable it returns at once: whoever started us lets us live on our own.
    """
    parent = os.environ.get(PARENT_VARIABLE, "")
    if not parent.isdecimal():
        return
    while os.getppid() == int(parent):  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.5)
    log.warning("parent process %s is gone, stopping", parent)
    stop.set()

"""How a process of the mesh learns that it should stop: by signal, or because its parent is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

PARENT_VARIABLE = "MESHWORK_PARENT_PID"

log = logging.getLogger(__name__)


def log_to_stderr(name: str) -> None:
    """Logs one line an event to standard error, each naming this process's role."""
    logging.basicConfig(
        level=os.environ.get("MESHWORK_LOG_LEVEL", "INFO").upper(),
        format=f"%(asctime)s %(levelname)s {name} %(message)s",
    )


def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process at once.

    Args:
        at_once: called before that end, for what must not be left behind.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled(number: signal.Signals) -> None:
        if stop.is_set():
            try:
                at_once()
            finally:
                os._exit(128 + number)
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

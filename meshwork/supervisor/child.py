"""One process that is kept running: started, watched, restarted with backoff, stopped.

After a crash it waits min(0.5 x 2^n, 30) seconds, n the crashes in a row; a minute of running makes
n zero again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import psutil

from meshwork.process import PARENT_VARIABLE
from meshwork.supervisor.home import Home, ProcessRecord

log = logging.getLogger(__name__)

EXIT_NOT_STARTED = 127  # as shells say it
FIRST_BACKOFF_S, LAST_BACKOFF_S, STABLE_S = 0.5, 30.0, 60.0


def backoff_s(crashes: int) -> float:
    """Seconds to wait after the given number of crashes in a row."""
    return min(FIRST_BACKOFF_S * 2.0 ** max(crashes - 1, 0), LAST_BACKOFF_S)


def exit_text(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


class Child:
    """A process of the mesh.

    Args:
        name: unique; names its log.
        role: "valkey", "router" or "replica".
        argv: the command.
        environment: variables on top of this process's own.
        on_change: called when `record()` says something new.
        on_crash: called with this child after each unasked end.
        on_done: called when it ended with exit status 0 though we did not ask, as a replica that was
            told to drain does; it is not started again. None takes that for a crash.
    """

    def __init__(
        self,
        home: Home,
        name: str,
        role: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        service: str = "",
        on_change: Callable[[], None],
        on_crash: Callable[[Child], None],
        on_done: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.role = role
        self.service = service
        self.retiring = False  # one too many: it drains and is not started again
        self.crashes = 0  # in a row
        self.restarts = 0
        self.last_exit = ""
        self._home = home
        self._argv = argv
        self._environment = {**os.environ, **environment, PARENT_VARIABLE: str(os.getpid())}
        self._on_change = on_change
        self._on_crash = on_crash
        self._on_done = on_done
        self._process: asyncio.subprocess.Process | None = None
        self._created = 0.0
        self._state = "stopped"
        self._log_start = 0  # where in its log the present run begins
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"child {name}")

    def record(self) -> ProcessRecord:
        """This process as the mesh's record shows it."""
        running = self._state == "running" and self._process is not None
        return ProcessRecord(
            name=self.name,
            role=self.role,
            service=self.service,
            pid=self._process.pid if running and self._process else 0,
            started=self._created if running else 0.0,
            state=self._state,
            restarts=self.restarts,
            last_exit=self.last_exit,
        )

    def last_lines(self, count: int) -> list[str]:
        """What the present or the last run printed at its end."""
        return self._home.last_lines(self.name, count, self._log_start)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run_once()
            if self._stopping.is_set():
                break
            self.last_exit = exit_text(status)
            if status == 0 and self._on_done is not None:
                self._enter("stopped")
                self._on_done(self)
                return
            self.crashes = 1 if time.monotonic() - began > STABLE_S else self.crashes + 1
            self._enter("backoff")
            self._on_crash(self)
            try:
                async with asyncio.timeout(backoff_s(self.crashes)):
                    await self._stopping.wait()
            except TimeoutError:
                self.restarts += 1
        self._enter("stopped")

    async def _run_once(self) -> int:
        try:
            await self._start()
        except OSError as error:  # no memory, no descriptors, no room on the disk: later there may be
            log.error("%s cannot be started: %s", self.name, error)
            return EXIT_NOT_STARTED
        assert self._process is not None
        if self._stopping.is_set():
            self._process.terminate()
        self._enter("running")
        return await self._process.wait()

    async def _start(self) -> None:
        output = self._home.open_log(self.name)
        try:
            self._log_start = os.fstat(output).st_size
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        try:
            self._created = psutil.Process(self._process.pid).create_time()
        except psutil.NoSuchProcess:
            self._created = time.time()

    def _enter(self, state: str) -> None:
        self._state = state
        self._on_change()

    def kill(self) -> None:
        """Ends the process at once, as a crash would: it is started again."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self, timeout_s: float) -> None:
        """Asks the process to end, and after `timeout_s` seconds ends it."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        _, pending = await asyncio.wait([self._task], timeout=timeout_s)
        if pending:
            self.kill()
        await self._task

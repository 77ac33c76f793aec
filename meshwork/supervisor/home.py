"""Where a mesh on this machine keeps its files: `MESHWORK_HOME`, one folder a mesh.

::

    run/router-2/    files of the second router's gateway, and so on; the first's are in run/
    run/mesh.json    what runs, as `meshwork status` and `meshwork down` read it
    run/lock         held by the supervisor for as long as it lives
    logs/NAME.log    what each process printed
    data/            the embedded Valkey's
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import psutil

from meshwork.errors import FailedPrecondition

HOME_VARIABLE = "MESHWORK_HOME"
_LOCK_PATIENCE_S = 0.3  # whoever asks whether a mesh runs holds its lock for a moment
_KEPT_LOGS = 50  # of replicas, from this run of the mesh and those before
_LOG_BYTES = 8 * 1024 * 1024  # a log that is longer when its process starts is set aside


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRecord:
    """A process of the mesh."""

    name: str  # for example "vision-1f3a", "router", "valkey"
    role: str  # "valkey", "router" or "replica"
    service: str  # of a replica; "" otherwise
    pid: int  # 0 while it does not run
    started: float  # `psutil.Process.create_time()`, so that a reused pid is not taken for it
    state: str  # "running", "backoff" or "stopped"
    restarts: int  # times that it was started again
    last_exit: str  # how it ended last; "" if it never did


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshRecord:
    """A mesh that runs on this machine."""

    name: str
    pid: int  # of the supervisor
    state: str  # "starting", "ready", "failed" or "stopping"
    reason: str  # why it failed; "" otherwise
    gateway: str  # host:port of the first
    router: str  # host:port of the first
    redis_url: str
    config: str  # the MeshConfig as JSON
    gateways: list[str] = field(default_factory=list)  # host:port of each
    routers: list[str] = field(default_factory=list)  # host:port of each
    processes: list[ProcessRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Home:
    """One mesh's folder."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """MESHWORK_HOME, or `~/.meshwork`."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or "~/.meshwork").expanduser().resolve())

    @property
    def run_dir(self) -> Path:
        """What belongs to the running mesh."""
        return self.root / "run"

    @property
    def data_dir(self) -> Path:
        """What outlives it."""
        return self.root / "data"

    def log(self, name: str) -> Path:
        """The log of the process `name`."""
        return self.root / "logs" / f"{name}.log"

    def make(self) -> None:
        """Makes the folders, readable by their owner only: the record holds Redis's password.

        Raises:
            FailedPrecondition: this process may not write there.
        """
        for folder in (self.root, self.run_dir, self.data_dir, self.root / "logs"):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> FailedPrecondition:
        return FailedPrecondition(
            f"cannot keep the mesh's files in {self.root}: {error.strerror} ({error.filename}); "
            f"name a folder that can be written with {HOME_VARIABLE}"
        )

    def open_log(self, name: str) -> int:
        """A descriptor that appends to the log of `name`; a long log is set aside first."""
        path = self.log(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have tidied up
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def prune_logs(self) -> None:
        """Removes the oldest logs of replicas: each replica has a name, so a log, of its own."""
        logs = [path for path in (self.root / "logs").glob("*-*.log*") if path.is_file()]
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[_KEPT_LOGS:]:
            path.unlink(missing_ok=True)

    def last_lines(self, name: str, count: int, since: int = 0) -> list[str]:
        """The last lines of a log from the byte `since` on, fewer if there are fewer."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(since, file.seek(0, os.SEEK_END) - 64 * 1024))
                return file.read().decode("utf-8", "replace").splitlines()[-count:]
        except OSError:
            return []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the mesh's lock; the kernel gives it up however the process ends.

        Raises:
            FailedPrecondition: another supervisor holds it.
        """
        self.make()
        try:
            file = (self.run_dir / "lock").open("w")
        except OSError as error:
            raise self._unusable(error) from error
        with file:
            # The file stays when the lock is given up: were it removed, a third process could lock
            # a new file of that name while a second one, which opened the old one, locks that.
            give_up = time.monotonic() + _LOCK_PATIENCE_S
            while not _locked(file):
                if time.monotonic() > give_up:
                    record = self.read()
                    who = f" (pid {record.pid}, gateway {record.gateway})" if record else ""
                    raise FailedPrecondition(
                        f"a mesh runs already in {self.root}{who}: stop it with `meshwork down`, "
                        f"or run another one beside it with another {HOME_VARIABLE}"
                    )
                time.sleep(0.02)
            yield

    def write(self, record: MeshRecord) -> None:
        """Replaces the record in one step."""
        path = self.run_dir / "mesh.json"
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(asdict(record), indent=2))
        fresh.replace(path)

    def read(self) -> MeshRecord | None:
        """The record, or None if no mesh was started here."""
        try:
            content = json.loads((self.run_dir / "mesh.json").read_text())
            processes = [ProcessRecord(**entry) for entry in content.pop("processes")]
            return MeshRecord(**content, processes=processes)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def forget(self) -> None:
        """Removes the record."""
        (self.run_dir / "mesh.json").unlink(missing_ok=True)

    def running(self) -> MeshRecord | None:
        """The record, if its supervisor lives."""
        record = self.read()
        if record is None or not psutil.pid_exists(record.pid):
            return None
        try:
            with (self.run_dir / "lock").open("r") as file:
                return None if _locked(file) else record
        except OSError:
            return None


def _locked(file: TextIO) -> bool:
    """Takes the lock if nobody holds it; it is given up when `file` is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def alive(process: ProcessRecord) -> psutil.Process | None:
    """The process that the record means, None if it is gone (or its pid is another's now)."""
    if not process.pid:
        return None
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < 1.0
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None

"""A process that holds a native library and answers each question from a fresh fork of itself.

Speech libraries are not written for servers: they hold the interpreter lock for seconds (pocketsphinx),
keep global state (eSpeak NG), carry state from one utterance into the next (both), and may abort the
process on odd input. So each lives in a process of its own, loaded once, that never answers itself ::

    asking thread --socket pair's end--> zygote --fork--> child: question -> answer -> exit
          '------------------ question, answer -----------------'

A fork costs about a millisecond and shares the loaded model's memory; every answer comes from the same
pristine state, so equal questions have equal answers; questions from several threads run in parallel;
a crash takes one answer with it. The word is Android's and Chromium's for the same pattern.

A message is `u32 head bytes | u32 body bytes | head, JSON | body`, little-endian.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Head = Mapping[str, Any]

START_S = 60.0  # the longest that loading the library may take on a busy machine
_SIZES = struct.Struct("<II")
_LARGEST = 256 << 20  # bytes; no message comes near, so a larger one is garbage
_PR_SET_PDEATHSIG = 1


class Crashed(Exception):
    """The fork ended without an answer: the library aborted, or ran past its processor time."""


class Zygote:
    """Asks questions of the module `module`, which calls `serve`; thread-safe.

    Args:
        module: run as `python -m MODULE`.
        arguments: its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._arguments = arguments
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def ask(self, head: Head, body: bytes = b"", *, timeout_s: float) -> tuple[Head, bytes]:
        """The answer of a fresh fork; starts the process if it does not run.

        Raises:
            Crashed: the fork ended, or was not done within `timeout_s`; or this was closed.
        """
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(timeout_s)
            with theirs:
                self._hand_over(theirs)
            try:
                send(ours, head, body)
                return receive(ours)
            except (OSError, EOFError) as error:
                raise Crashed(f"{self._module}: {error or 'ended without an answer'}") from error

    def _hand_over(self, end: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise Crashed(f"{self._module} was closed")
            if self._control is None:
                self._start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"q"], [end.fileno()])
            except OSError as error:
                log.warning("%s ended (%s), starting it again", self._module, error)
                self._stop()
                self._start()
                socket.send_fds(self._control, [b"q"], [end.fileno()])

    def _start(self) -> None:
        control, theirs = socket.socketpair()
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(theirs.fileno()), *self._arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._control = control
        control.settimeout(START_S)
        try:
            receive(control)  # says that the library is loaded
        except (OSError, EOFError) as error:
            self._stop()
            raise Crashed(f"{self._module} could not load its library; its log lines say why") from error

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None

    def close(self) -> None:
        """Ends the process and its forks; those who wait for an answer get Crashed."""
        with self._lock:
            self._closed = True
            self._stop()


def forks_at_once() -> int:
    """How many forks a task should let run: the threads that the replica allows one forward pass.

    The replica passes its limit to native libraries in OMP_NUM_THREADS; half of the cores without it.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(told) if told.isdecimal() else (os.cpu_count() or 1) // 2)


def serve(answer: Callable[[Head, bytes], tuple[Head, bytes]], *, most_cpu_s: int) -> None:
    """The zygote's own loop: forks for each question until the asking process is gone.

    Args:
        answer: called in the fork.
        most_cpu_s: processor seconds after which a fork is killed.
    """
    # The terminal's Ctrl-C goes to every process; the replica decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks leave no zombies
    gc.freeze()  # a collection in a fork would copy the shared pages
    control = socket.socket(fileno=int(sys.argv[1]))
    zygote = os.getpid()
    send(control, {})
    while True:
        try:
            told, ends, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            return
        if not told:
            return
        if os.fork() == 0:
            try:
                control.close()
                _bound(zygote, most_cpu_s)
                end = socket.socket(fileno=ends[0])
                send(end, *answer(*receive(end)))
            except (EOFError, OSError):
                os._exit(1)  # who asked is gone
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        for handed in ends:
            os.close(handed)


def _bound(zygote: int, most_cpu_s: int) -> None:
    """Lets this fork outlive neither its zygote nor its time."""
    resource.setrlimit(resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != zygote:  # it ended before the line above
            os._exit(1)


def send(to: socket.socket, head: Head, body: bytes = b"") -> None:
    """Writes one message."""
    encoded = json.dumps(head).encode()
    to.sendall(_SIZES.pack(len(encoded), len(body)) + encoded)
    to.sendall(body)


def receive(source: socket.socket) -> tuple[Head, bytes]:
    """Reads one message.

    Raises:
        EOFError: the other side ended before a whole message was there.
    """
    head_bytes, body_bytes = _SIZES.unpack(_exactly(source, _SIZES.size))
    if head_bytes + body_bytes > _LARGEST:
        raise EOFError("not a message")
    head: Head = json.loads(_exactly(source, head_bytes))
    return head, _exactly(source, body_bytes)


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = source.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("ended without an answer")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

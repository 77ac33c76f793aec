"""Processes of a mesh that outlive their supervisor: found by the record and by their command, and ended."""

from __future__ import annotations

import contextlib
import logging
import os
import re

import psutil

from meshwork.supervisor.home import Home, alive

log = logging.getLogger(__name__)


def end_leftovers(home: Home) -> None:
    """Ends what an earlier supervisor, killed in mid-air, left running in this home."""
    record = home.read()
    processes = [alive(process) for process in record.processes] if record else []
    left = [process for process in processes if process is not None]
    left += gateways(home)
    for process in left:
        log.warning("ending a process that was left over: %s (pid %d)", process.name(), process.pid)
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=2)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_now(home: Home) -> None:
    """Kills every process that this one started, and their gateway: nothing is waited for."""
    doomed = psutil.Process().children(recursive=True)
    record = home.read()
    if record is not None and record.pid == os.getpid():
        doomed += gateways(home)  # an adopted one is no descendant of ours
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()


def gateways(home: Home) -> list[psutil.Process]:
    """The Envoy processes of this home: their command names a file of its run folder."""
    found, folder = [], f"{home.run_dir}/"
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if words and "envoy" in words[0] and any(word.startswith(folder) for word in words[1:]):
            found.append(process)
    return found


def gateway_index(envoy: psutil.Process) -> int:
    """Of which of the mesh's gateway addresses it is the Envoy, from 0: its folder is named by its router."""
    try:
        words = envoy.cmdline()
    except psutil.Error:  # it ended just now
        words = []
    found = (re.search(r"/router-([0-9]+)/envoy\.json$", word) for word in words)
    return next((int(match[1]) - 1 for match in found if match), 0)

"""Measuring memory: what a model takes as it loads and warms up, and giving it back when it goes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def process_bytes() -> int:
    """Memory of this process and of those that it started, shared pages counted once where known."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue  # it ended meanwhile
        total += getattr(info, "pss", 0) or info.rss
    return total


def capacity_bytes(device: str) -> int:
    """Memory of a device that models may fill: four fifths of the host's, nine tenths of a GPU's."""
    if device.startswith("cpu"):
        return int(psutil.virtual_memory().total * 0.8)
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory * 0.9)


class Peak:
    """The most memory that was in use since it was made, beyond what was then; for one device.

    The processor's is the kernel's high-water mark (Linux), a GPU's torch's.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = 0
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        elif _reset_high_water():
            self._before = psutil.Process().memory_info().rss

    def bytes(self) -> int:
        """Bytes; 0 where the system does not tell."""
        if self._device.startswith("cuda"):
            import torch

            return max(0, torch.cuda.max_memory_allocated(self._device) - self._before)
        return max(0, _high_water() - self._before) if self._before else 0


def _reset_high_water() -> bool:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def give_back(unloaded: Sequence[weakref.ref[Any]]) -> None:
    """Returns to the system what unloaded models held: the C heap's free pages, GPU caches.

    Python's collector stops every thread for as long as it looks through all objects, half a second
    where large libraries are loaded: it is asked only if an `unloaded` task is still there.
    """
    if any(task() is not None for task in unloaded):
        gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

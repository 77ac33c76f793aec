"""What is costly to make and may be kept: exported networks, and verdicts on engines.

Everything lies under one folder by the hash of what it was made from, so nothing in it can be out of
date, only unused; when the folder grows beyond its bound, what was used longest ago goes first.

::

    $MESHWORK_CACHE, or $MESHWORK_HOME/cache, or ~/.meshwork/cache
        exports/HASH/model.onnx     (and model.onnx.data beside it where it is large)
        verdicts/HASH/verdict.json
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

CACHE_VARIABLE = "MESHWORK_CACHE"
_MOST_BYTES = 20_000_000_000


def cache_folder() -> Path:
    """Where things are kept between runs."""
    told = os.environ.get(CACHE_VARIABLE)
    if told:
        return Path(told).expanduser()
    return Path(os.environ.get("MESHWORK_HOME") or "~/.meshwork").expanduser() / "cache"


def digest(*parts: str | bytes) -> str:
    """One name for all of `parts`."""
    state = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()[:32]


def path_of(kind: str, key: str, file: str) -> Path:
    """Where a file is, or would be."""
    return cache_folder() / kind / key / file


def kept(kind: str, key: str, file: str, make: Callable[[Path], None]) -> Path:
    """A file that is in the cache, or is made and then kept.

    Args:
        kind: `exports` or `verdicts`.
        key: the hash of all that the file depends on.
        file: its name.
        make: writes it, and what belongs to it, into the folder of the path that it is given; what
            it raises is raised.

    Returns:
        The file's path; in a folder of this process's own where the cache cannot be written to.
    """
    folder = path_of(kind, key, file).parent
    if (folder / file).is_file():
        os.utime(folder)
        return folder / file
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    except OSError as error:
        log.warning("cannot keep anything in %s: %s", folder.parent, error.strerror)
        fresh = folder = Path(tempfile.mkdtemp(prefix="meshwork-"))
    try:
        make(fresh / file)
        if fresh != folder:
            shutil.rmtree(folder, ignore_errors=True)  # what an earlier version left half made
            fresh.rename(folder)
            _prune(folder)
    except OSError:
        if not (folder / file).is_file():  # another process made the same, and was first
            raise
    finally:
        if fresh != folder:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder / file


def forget(kind: str, key: str) -> None:
    """Removes what is kept under `key`."""
    shutil.rmtree(cache_folder() / kind / key, ignore_errors=True)


def _prune(newest: Path) -> None:
    """Removes what was used longest ago until the cache is within its bound; keeps `newest`."""
    entries = [entry for entry in cache_folder().glob("*/*") if entry != newest and entry.is_dir()]
    sizes = {entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in entries}
    total = sum(sizes.values())
    for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime):
        if total <= _MOST_BYTES:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]

"""What the router knew last, on disk, for a start while Redis is away.

A router that starts then would know of no replica; with this it serves, to clients that have nothing
yet, those of a moment ago. They are no more than a guess: the snapshot stays incomplete, so that whoever
has one already (Envoy, clients that reconnect) keeps it, and Redis's first word starts a grace period.
What is older than `MAX_AGE_S` is not believed: addresses may be another process's by then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from google.protobuf.message import DecodeError

from meshwork.router.v1 import router_pb2

log = logging.getLogger(__name__)

MAX_AGE_S = 600.0

Replicas = Mapping[str, router_pb2.Replica]


class Memory:
    """A file with the replicas of one mesh, as old as it says.

    Args:
        folder: of the router's files; routers on one machine may share it.
    """

    def __init__(self, folder: Path, mesh: str) -> None:
        self._file = folder / f"replicas-{quote(mesh, safe='')}.binpb"
        self._encoded: dict[str, tuple[router_pb2.Replica, bytes]] = {}
        self._written: bytes | None = None
        self._complained = False

    def keep(self, replicas: Replicas) -> None:
        """Writes down that there are these replicas now."""
        before, self._encoded = self._encoded, {}
        for name, replica in replicas.items():
            known = before.get(name)
            # A lease that changed is another object; of ten thousand, few did.
            self._encoded[name] = known if known and known[0] is replica else (replica, _entry(replica))
        data = b"".join(self._encoded[name][1] for name in sorted(self._encoded))
        try:
            if data == self._written:
                os.utime(self._file)
                return
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.write_bytes(data)
            draft.replace(self._file)
            self._written = data
        except OSError as error:  # a full disk is no reason to stop
            if not self._complained:
                log.warning("the replicas can't be written down: %s", error)
            self._complained = True
            self._written = None

    def recall(self) -> Replicas:
        """The replicas of at most `MAX_AGE_S` ago; empty if there is no telling."""
        with contextlib.suppress(OSError, DecodeError):
            if 0 <= time.time() - self._file.stat().st_mtime + 1 <= MAX_AGE_S:
                found = router_pb2.ListReplicasResponse.FromString(self._file.read_bytes())
                return {replica.name: replica for replica in found.replicas}
        return {}


def _entry(replica: router_pb2.Replica) -> bytes:
    """`replica` as it stands within a list of them."""
    entry = router_pb2.ListReplicasResponse(replicas=[replica])
    return entry.SerializeToString(deterministic=True)

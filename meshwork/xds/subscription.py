"""What one client wants of one resource type, what it was sent, and what it made of it.

Pure state: the stream loop feeds requests in and takes responses out. The rules are those of the
state-of-the-world protocol (envoyproxy.io, "xDS REST and gRPC protocol"): a request whose nonce is
not that of the last response is stale and is ignored; one with `error_detail` rejects (NACK) what
was sent, after which the client keeps what it had and the same content is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshwork.xds.snapshot import ENDPOINTS, ROUTES, Resource, Snapshot, digest
from meshwork.xds.wire import Request, Response

# For these types no names means nothing; for the others (clusters, listeners) it means all.
_NAMED_ONLY = frozenset((ENDPOINTS, ROUTES))


@dataclass(slots=True)
class Subscription:
    """One type on one stream.

    Attributes:
        node: id of the client.
        names: what the client asks for; see `wildcard`.
        retained: resources that have left the snapshot and that the client may still use, so that
            nothing it routes to goes away before its routes do.
        rejected: the client's reason for its last NACK, "" if it accepted the last response.
        reconnected: whether the client came with resources from an earlier stream.
    """

    type_url: str
    node: str = ""
    names: frozenset[str] = frozenset()
    wildcard: bool = False
    reconnected: bool = False
    rejected: str = ""
    retained: dict[str, Resource] = field(default_factory=dict)
    _sent: dict[str, Resource] | None = None
    _sent_key: str = ""
    _nonce: str = ""
    _waiting: bool = False
    _forced: bool = False
    _counter: int = 0

    @property
    def waiting(self) -> bool:
        """Whether a response is out that the client has not replied to."""
        return self._waiting

    def take(self, request: Request) -> bool:
        """Takes a request of this type in; False if it is stale and was ignored."""
        if request.nonce != self._nonce:
            return False
        if not request.nonce:
            self.reconnected = bool(request.version)
        elif self._waiting:
            self._waiting = False
            self.rejected = request.error
        self.names = frozenset(request.names) - {"*"}
        self.wildcard = self.type_url not in _NAMED_ONLY and (not request.names or "*" in request.names)
        if not self.wildcard:
            for name in self.retained.keys() - self.names:
                del self.retained[name]
        return True

    def force(self) -> None:
        """Sends the next response though its content be the same: what refers to it was sent anew."""
        self._forced = True

    def release(self) -> None:
        """Lets go of retained resources that no subscription names: routes do not lead there now."""
        if self.wildcard:
            self.retained.clear()

    def wanted(self, snapshot: Snapshot) -> dict[str, Resource]:
        """What the client should have now: its share of `snapshot`, and what is retained for it."""
        available = snapshot.resources(self.type_url)
        if self.wildcard:
            share = {name: each for name, each in available.items() if each.offered(self.node)}
            share.update((name, available[name]) for name in self.names & available.keys())
        else:
            share = {name: available[name] for name in sorted(self.names & available.keys())}
        return {**self.retained, **share}

    def retain(self, snapshot: Snapshot) -> None:
        """Keeps what the client was sent and `snapshot` lacks."""
        available = snapshot.resources(self.type_url)
        for name, resource in (self._sent or {}).items():
            if name not in available and (self.wildcard or name in self.names):
                self.retained[name] = resource
        for name in self.retained.keys() & available.keys():
            del self.retained[name]

    def respond(self, snapshot: Snapshot) -> Response | None:
        """The response that brings the client to `snapshot`, or None if it has it or is busy."""
        if self._waiting:
            return None
        wanted = self.wanted(snapshot)
        key = self._key(wanted)
        if self._sent is not None and key == self._sent_key and not self._forced:
            return None
        self._counter += 1
        self._nonce = str(self._counter)
        self._sent, self._sent_key, self._waiting, self._forced = wanted, key, True, False
        bodies = tuple(resource.body for resource in wanted.values())
        return Response(
            type_url=self.type_url,
            version=snapshot.type_version(self.type_url),
            nonce=self._nonce,
            bodies=bodies,
        )

    def holds(self, snapshot: Snapshot) -> bool:
        """Whether the client was sent its share of `snapshot` and replied."""
        return (
            not self._waiting
            and not self._forced
            and self._sent is not None
            and self._sent_key == self._key(self.wanted(snapshot))
        )

    def changed_bodies(self, before: Mapping[str, Resource] | None) -> bool:
        """Whether the last response changed a resource that the client had as `before` says."""
        return any(
            name in (before or {}) and (before or {})[name].version != resource.version
            for name, resource in (self._sent or {}).items()
        )

    @property
    def accepted(self) -> bool:
        """Whether the client has taken the last response."""
        return self._sent is not None and not self._waiting and not self.rejected

    @property
    def sent(self) -> Mapping[str, Resource] | None:
        """What the last response held; None before the first."""
        return self._sent

    def _key(self, wanted: Mapping[str, Resource]) -> str:
        # Names that do not exist count too: asking for one more must be answered, by its absence.
        asked = (name.encode() for name in sorted(self.names))
        return digest((*asked, b"|", *(wanted[name].version.encode() for name in sorted(wanted))))

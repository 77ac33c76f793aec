"""What one client wants of one resource type, what it holds, and what it made of what it was sent.

Pure state: the stream loop feeds requests in and takes responses out ::

    due    names that may differ between what the client holds and what it should, each with the
           generation since which it may
    batch  those of them that do differ, as many as one response may carry
    ACK    held += batch
    NACK   the resources that the reason names are left out until their version changes, and the rest
           is sent again; if it names none, half as many at a time, until the bad one is alone

A response carries the batch, in both protocols, but for clusters and listeners in the state of the
world: there what a response lacks is gone, so it carries what is held too, the last version that was
accepted of what was rejected. (envoyproxy.io, "xDS REST and gRPC protocol", "Grouping resources into
responses"; Envoy and gRPC both take the good resources of a response that they reject, Envoy of
endpoints and routes only those before the bad one.) A request whose nonce is not that of the last
response is stale: it tells what the client no longer asks for, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshwork.xds.delta import DeltaRequest, DeltaResponse
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from meshwork.xds.wire import Request, Response

# For these types no names means nothing; for the others (clusters, listeners) it means all.
_NAMED_ONLY = frozenset((ENDPOINTS, ROUTES))
_WHOLE = frozenset((CLUSTER, LISTENER))

# gRPC clients take messages of up to 4 MB.
RESPONSE_BYTES = 1 << 20
_NO_LIMIT = 1 << 30

Batch = dict[str, Resource | None]
"""By name, what the client should have; None for what there is not."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A resource that the client can't use: of which version ("" for its absence), and why."""

    version: str
    reason: str


@dataclass(slots=True)
class Subscription:
    """One type on one stream.

    Attributes:
        node: id of the client.
        zone: zone of the client, where it does not choose among zones itself; "" otherwise.
        incremental: whether the client speaks delta xDS.
        names: what the client asks for; see `wildcard`.
        wildcard: whether it asks for all that is offered to it.
        reconnected: whether the client came with resources from an earlier stream.
        held: what it acknowledged, by name.
        rejections: what it rejected, by name.
        rejected: the client's reason for its last NACK, "" if it accepted the last response.
        acks: responses that it took.
        nacks: responses that it rejected.
        generation: of the snapshot in force.
    """

    type_url: str
    node: str = ""
    incremental: bool = False
    zone: str = ""
    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    reconnected: bool = False
    held: dict[str, Resource] = field(default_factory=dict)
    rejections: dict[str, Rejection] = field(default_factory=dict)
    rejected: str = ""
    acks: int = 0
    nacks: int = 0
    generation: int = 0
    _claimed: dict[str, str] = field(default_factory=dict)
    _due: dict[str, int] = field(default_factory=dict)
    _all_due: bool = False
    _asked: set[str] = field(default_factory=set)
    _batch: Batch = field(default_factory=dict)
    _batch_due: int = 0
    _limit: int = _NO_LIMIT
    _nonce: str = ""
    _waiting: bool = False
    _counter: int = 0

    @property
    def waiting(self) -> bool:
        """Whether a response is out that the client has not replied to."""
        return self._waiting

    @property
    def accepted(self) -> bool:
        """Whether the client has taken all that it was sent, or came with all that there is."""
        has_some = self._counter > 0 or (bool(self.held) and not self._due)
        return has_some and not self._waiting and not self.reason

    @property
    def reason(self) -> str:
        """Why the client lacks something that it was sent; "" if it lacks nothing."""
        return self.rejected or next((each.reason for each in self.rejections.values()), "")

    @property
    def whole(self) -> bool:
        """Whether what a response lacks is gone."""
        return not self.incremental and self.type_url in _WHOLE

    def take(self, request: Request) -> bool:
        """Takes a request of the state of the world in; False if it is stale."""
        names = set(request.names) - {"*"}
        fresh = request.nonce == self._nonce
        if fresh:
            wildcard = self.type_url not in _NAMED_ONLY and (not request.names or "*" in request.names)
            self._all_due = self._all_due or wildcard != self.wildcard
            self.wildcard = wildcard
        if names != self.names:
            known = self.names if self.wildcard else self.names | self.held.keys()
            self._unsubscribe(known - names)
        if not fresh:
            return False
        if not request.nonce:
            self.reconnected = bool(request.version)
        self._reply(request.nonce, request.error)
        self._subscribe(names - self.names)
        return True

    def take_delta(self, request: DeltaRequest) -> bool:
        """Takes a request of the incremental protocol in; False if it replies to an older response."""
        if not self._nonce and not self.names and not self.wildcard:
            self.reconnected = bool(request.versions)
            self._claimed = dict(request.versions)
            wildcard = not request.subscribe
        else:
            wildcard = self.wildcard and "*" not in request.unsubscribe
        wildcard = self.type_url not in _NAMED_ONLY and (wildcard or "*" in request.subscribe)
        self._all_due = self._all_due or wildcard != self.wildcard
        self.wildcard = wildcard
        self._unsubscribe(set(request.unsubscribe))
        for name in request.subscribe:
            self.held.pop(name, None)  # who subscribes again has it no longer
        self._subscribe(set(request.subscribe) - {"*"})
        if request.nonce and request.nonce != self._nonce:
            return False
        self._reply(request.nonce, request.error)
        return True

    @property
    def outstanding(self) -> int | None:
        """The first generation of which the client lacks something, or has not replied; None if none."""
        since = [*self._due.values()]
        if self._waiting:
            since.append(self._batch_due)
        if self._all_due or self._claimed:
            since.append(self.generation)
        return min(since, default=None)

    def _look_at(self, names: Iterable[str], since: int) -> None:
        for name in names:
            self._due.setdefault(name, since)

    def _subscribe(self, names: set[str]) -> None:
        self.names |= names
        self._look_at(names, self.generation)
        self._asked |= names

    def _unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self.names.discard(name)
            self._asked.discard(name)
            self.rejections.pop(name, None)
            if not self.wildcard:
                self.held.pop(name, None)
                self._batch.pop(name, None)
            self._look_at((name,), self.generation)

    def _reply(self, nonce: str, error: str) -> None:
        if not (nonce and self._waiting):
            return
        self._waiting = False
        self.rejected = error
        batch, self._batch = self._batch, {}
        if not error:
            self.acks += 1
            self._limit = min(self._limit * 2, _NO_LIMIT)
            for name, resource in batch.items():
                self.rejections.pop(name, None)
                if resource is None:
                    self.held.pop(name, None)
                else:
                    self.held[name] = resource
            return
        self.nacks += 1
        self._look_at(batch, self._batch_due)
        culprits = [*batch] if len(batch) == 1 else named_in(error, batch)
        for name in culprits:
            resource = batch[name]
            self.rejections[name] = Rejection(resource.version if resource else "", error)
        if not culprits:
            self._limit = max(1, len(batch) // 2)

    def note(self, changed: Iterable[str], generation: int = 0) -> None:
        """Looks at these names again: since `generation` they are not what they were."""
        self._look_at(changed if self.wildcard else self.names.intersection(changed), generation)

    def force(self, names: Iterable[str] | None = None) -> None:
        """Sends these again (all, if None), though they are the same: what refers to them was sent anew."""
        for name in [*self.held, *self._batch] if names is None else names:
            if self.held.pop(name, None) is not None or self._batch.pop(name, None) is not None:
                self._look_at((name,), self.generation)

    def changes(self, snapshot: Snapshot, *, removals: bool) -> Batch:
        """What the client should be sent next.

        Args:
            removals: whether what left the snapshot may go: no route of the client leads there.
        """
        available = snapshot.resources(self.type_url)
        self._look_at_claims(available)
        if self._all_due:
            self._look_at((*(available if self.wildcard else self.names), *self.held), self.generation)
            self._all_due = False
        batch: Batch = {}
        size = 0
        for name in sorted(self._due):
            resource, held = self._wanted(available.get(name)), self.held.get(name)
            if self._settled(name, resource, held):
                del self._due[name]
            elif resource is not None or removals or held is None:
                batch[name] = resource
                size += len(resource.body) if resource else 0
                if len(batch) >= self._limit or (size >= RESPONSE_BYTES and not self.whole):
                    break
        return batch

    def _wanted(self, resource: Resource | None) -> Resource | None:
        if resource is None:
            return None
        resource = resource.seen_from(self.zone)
        if resource.name in self.names:
            return resource
        return resource if self.wildcard and resource.offered(self.node) else None

    def _settled(self, name: str, resource: Resource | None, held: Resource | None) -> bool:
        """Whether there is nothing to say of `name`."""
        if name in self.rejections:
            if self.rejections[name].version == (resource.version if resource else ""):
                return True
            del self.rejections[name]  # another version may be better
            if not self.rejections:
                self.rejected = ""
        if resource is not None:
            return held is not None and held.version == resource.version
        if held is not None:
            return not self.wildcard  # who asks for it by name lets go of it by itself
        # Who asks for what there is not hears so, where the protocol can say it.
        return name not in self._asked or not (self.incremental or self.whole)

    def _look_at_claims(self, available: Mapping[str, Resource]) -> None:
        for name, version in self._claimed.items():
            known = self._wanted(available.get(name))
            same = known is not None and known.version == version
            self.held[name] = known if known is not None and same else Resource(name, b"")
        self._look_at(self._claimed, self.generation)
        self._claimed = {}

    def respond(self, snapshot: Snapshot, *, removals: bool = True) -> Response | DeltaResponse | None:
        """The response that brings the client nearer to `snapshot`; None if there is none, or it is busy."""
        if self._waiting:
            return None
        batch = self.changes(snapshot, removals=removals)
        # Who asks for all waits for a first answer, even an empty one, unless it has something.
        known = self._counter or (self.incremental and self.reconnected)
        if not batch and (known or not self.wildcard):
            return None
        self._counter += 1
        self._nonce = str(self._counter)
        self._batch, self._waiting = batch, True
        self._batch_due = min((self._due.pop(name) for name in batch), default=self.generation)
        self._asked -= batch.keys()
        version = snapshot.type_version(self.type_url)
        sent: Batch = {**self.held, **batch} if self.whole else batch
        resources = tuple(each for each in sent.values() if each is not None)
        if self.incremental:
            removed = tuple(name for name, each in batch.items() if each is None)
            return DeltaResponse(
                type_url=self.type_url,
                version=version,
                nonce=self._nonce,
                resources=resources,
                removed=removed,
            )
        bodies = tuple(each.body for each in resources)
        return Response(type_url=self.type_url, version=version, nonce=self._nonce, bodies=bodies)

    @property
    def replaced(self) -> list[str]:
        """Names of the resources in the last response of which the client held another version."""
        return [name for name, resource in self._batch.items() if resource and name in self.held]


def named_in(reason: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that stand in the text `reason` as whole names."""
    return [name for name in names if re.search(rf"(?<![\w@/.-]){re.escape(name)}(?!\.?[\w@/-])", reason)]

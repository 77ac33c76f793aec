"""A consistent set of resources that never changes, named by its content.

A set's version must be the same in every router whatever the changes were that led to it, and must
cost one changed resource what that resource costs. So it is a sum, which has no order ::

    h(resource)    blake2b of name, body and audience, as a number of 128 bits
    version(type)  sum of h over the resources of the type, modulo 2**128

(M. Bellare, D. Micciancio: A new paradigm for collision-free hashing, EUROCRYPT 1997: AdHash.) It
guards against mistakes, not against an adversary: who can write resources needs no collision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

# Make before break: what a route names must be there before the route is.
ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)

_HASH_BYTES = 16
_MODULUS = 1 << (8 * _HASH_BYTES)


def digest(parts: Iterable[bytes]) -> bytes:
    """A short name for the content `parts`: the same parts, the same name, in every process."""
    hasher = hashlib.blake2b(digest_size=_HASH_BYTES)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def kind(type_url: str) -> str:
    """A type as people say it, for example `Cluster`."""
    return type_url.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, encoded once.

    Attributes:
        body: the encoded message, without its Any.
        listed: whether clients that ask for all resources of the type get it; one that is not
            listed goes only to clients that ask for it by name.
        audience: node id of the one client that gets it when it asks for all; "" for every client.
        views: by zone, what gRPC clients there get in its place; Envoys choose among zones themselves.
        version: of the content.
    """

    name: str
    body: bytes
    listed: bool = True
    audience: str = ""
    views: tuple[tuple[str, Resource], ...] = ()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [self.name.encode(), self.body, self.audience.encode()]
        parts += [part.encode() for zone, view in self.views for part in (zone, view.version)]
        object.__setattr__(self, "version", digest(parts).hex())

    def seen_from(self, zone: str) -> Resource:
        """What a gRPC client in `zone` gets; "" for a client that is shown no view."""
        if not self.views:
            return self
        # Without its views, whose changes are not this client's.
        plain = Resource(self.name, self.body, self.listed, self.audience)
        return next((view for where, view in self.views if where == zone), plain)

    def offered(self, node: str) -> bool:
        """Whether the client `node` gets it without naming it."""
        return self.listed and self.audience in ("", node)


class Snapshot:
    """Resources by type and name.

    Attributes:
        version: the same for the same content, whichever process made it, from whichever other one.
        complete: False while the maker does not know yet what there is; such a snapshot is for
            clients that have nothing, and takes nothing from those that have something.
    """

    def __init__(self, resources: Mapping[str, Iterable[Resource]], *, complete: bool = True) -> None:
        self._resources: dict[str, dict[str, Resource]] = {type_url: {} for type_url in ORDER}
        self._sums = dict.fromkeys(ORDER, 0)
        self.complete = complete
        self._put({type_url: {each.name: each for each in resources.get(type_url, ())} for type_url in ORDER})

    def replace(self, changes: Mapping[str, Mapping[str, Resource | None]], *, complete: bool = True) -> Self:
        """This snapshot with some resources changed, added, or (None) taken out; it shares the others."""
        made = object.__new__(type(self))
        made._resources = {
            type_url: dict(named) if changes.get(type_url) else named
            for type_url, named in self._resources.items()
        }
        made._sums = dict(self._sums)
        made.complete = complete
        made._put(changes)
        return made

    def _put(self, changes: Mapping[str, Mapping[str, Resource | None]]) -> None:
        for type_url, changed in changes.items():
            named, total = self._resources[type_url], self._sums[type_url]
            for name, resource in changed.items():
                before = named.get(name)
                if before is not None and resource is not None and before.version == resource.version:
                    continue
                named.pop(name, None)
                total -= int(before.version, 16) if before else 0
                if resource is not None:
                    named[name] = resource
                    total += int(resource.version, 16)
            self._sums[type_url] = total % _MODULUS
        parts = (self.type_version(type_url).encode() for type_url in ORDER)
        self.version = digest(parts).hex()[:_HASH_BYTES]

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of a type, by name; empty for a type that is not served."""
        return self._resources.get(type_url, {})

    def type_version(self, type_url: str) -> str:
        """The version of the resources of a type."""
        return f"{self._sums.get(type_url, 0):032x}"

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._resources[each])} {kind(each)}" for each in ORDER)
        return f"Snapshot({self.version}: {counts})"


@lru_cache(maxsize=16)
def differences(before: Snapshot, after: Snapshot) -> Mapping[str, frozenset[str]]:
    """By type, the names of the resources that are not the same in both.

    Found once for all the clients that go from one to the other.
    """
    found = {}
    for type_url in ORDER:
        old, new = before.resources(type_url), after.resources(type_url)
        if old is new:
            found[type_url] = frozenset[str]()
            continue
        changed = {name for name, each in new.items() if old.get(name) is not each}
        found[type_url] = frozenset(changed | (old.keys() - new.keys()))
    return found

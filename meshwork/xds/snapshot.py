"""A consistent set of resources that never changes, named by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

# Make before break: what a route names must be there before the route is.
ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)


def digest(parts: Iterable[bytes]) -> str:
    """A short name for the content `parts`: the same parts, the same name, in every process."""
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, encoded once.

    Attributes:
        body: the encoded message, without its Any.
        listed: whether clients that ask for all resources of the type get it; one that is not
            listed goes only to clients that ask for it by name.
        audience: node id of the one client that gets it when it asks for all; "" for every client.
        version: of the content.
    """

    name: str
    body: bytes
    listed: bool = True
    audience: str = ""
    version: str = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.name.encode(), self.body, self.audience.encode())
        object.__setattr__(self, "version", digest(parts))

    def offered(self, node: str) -> bool:
        """Whether the client `node` gets it without naming it."""
        return self.listed and self.audience in ("", node)


class Snapshot:
    """Resources by type and name.

    Attributes:
        version: the same for the same content, whichever process made it.
        complete: False while the maker does not know yet what there is; such a snapshot is for
            clients that have nothing, and takes nothing from those that have something.
    """

    def __init__(self, resources: Mapping[str, Iterable[Resource]], *, complete: bool = True) -> None:
        self._resources: dict[str, dict[str, Resource]] = {
            type_url: {resource.name: resource for resource in resources.get(type_url, ())}
            for type_url in ORDER
        }
        self._versions = {
            type_url: digest(named[name].version.encode() for name in sorted(named))
            for type_url, named in self._resources.items()
        }
        self.version = digest(self._versions[type_url].encode() for type_url in ORDER)
        self.complete = complete

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of a type, by name; empty for a type that is not served."""
        return self._resources.get(type_url, {})

    def type_version(self, type_url: str) -> str:
        """The version of the resources of a type."""
        return self._versions.get(type_url, "")

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{len(self._resources[type_url])} {type_url.rpartition('.')[2]}" for type_url in ORDER
        )
        return f"Snapshot({self.version}: {counts})"

"""Who of a cluster's replicas takes traffic, given who is ejected: a pure function.

    out of a cluster of n READY replicas  <=  floor(panic share x n)        (panic share: 0.5)

So a lone replica is never taken out, nor one of two while the other is out. Where more are ejected
than may stay out, those with the worst reasons do: hung, then unreachable, failing, slow; of one
reason those that were ejected first. The others are overruled and take traffic all the same (the
panic threshold of Envoy's, envoyproxy.io, "Panic threshold", kept here by the planner for all clients).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshwork.router.v1 import router_pb2

PANIC_SHARE = 0.5

Ejected = Mapping[str, router_pb2.Ejection]
NOBODY: Ejected = {}

_WORST_FIRST = (
    router_pb2.EJECTION_REASON_HUNG,
    router_pb2.EJECTION_REASON_UNREACHABLE,
    router_pb2.EJECTION_REASON_FAILING,
    router_pb2.EJECTION_REASON_SLOW,
)


def admitted(
    members: Sequence[router_pb2.Replica], ejected: Ejected, panic_share: float = PANIC_SHARE
) -> list[router_pb2.Replica]:
    """Those of a cluster's `members` that take traffic, in their order; never none of some."""
    if not ejected:
        return list(members)
    out = sorted(
        (each.name for each in members if each.name in ejected), key=lambda name: _rank(ejected, name)
    )
    gone = set(out[: int(panic_share * len(members))])
    return [each for each in members if each.name not in gone]


def overruled(
    clusters: Iterable[Sequence[router_pb2.Replica]], ejected: Ejected, panic_share: float = PANIC_SHARE
) -> frozenset[str]:
    """The ejected replicas that take traffic of some cluster all the same."""
    return frozenset(
        each.name
        for members in (clusters if ejected else ())
        for each in admitted(members, ejected, panic_share)
        if each.name in ejected
    )


def _rank(ejected: Ejected, name: str) -> tuple[int, int, str]:
    ejection = ejected[name]
    known = ejection.reason in _WORST_FIRST
    worst = _WORST_FIRST.index(ejection.reason) if known else len(_WORST_FIRST)
    return worst, ejection.since.ToNanoseconds(), name

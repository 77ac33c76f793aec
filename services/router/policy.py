"""Which policy applies to which cluster, and what a replica's lease says about its share of the calls.

::

    weight of an endpoint = 100 * capacity_rps of the model on that replica, rounded, 1 to 2^17
    unknown capacity      = the median of the known ones; all unknown: 1 each
    ring_hash             : 1 each, so that a change of capacity moves no user

Capacities in leases move in steps, so a steady replica's weight does not change. Weights count until
replicas have reported their load with their answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import median

from meshwork.names import MODEL_HEADER, header_value
from meshwork.policy import Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.balancing import Balancing
from meshwork.xds.resources import ClusterOptions, Host
from meshwork.xds.routes import RouteSpec
from services.router.model_versions import ModelVersion

# A few thousand hosts of the highest weight are still within 32 bits, as Envoy asks.
HIGHEST_WEIGHT = 1 << 17
_STEPS = 100  # of weight to one call a second, for models that need seconds


def policy_of(policies: Mapping[str, Policy], each: ModelVersion) -> Policy:
    """The policy of a model version, by service and then by model."""
    return policies.get(each.service, Policy()).of(each.model, each.version)


def options(policy: Policy) -> ClusterOptions:
    """What a policy means for a cluster."""
    by_zone = policy.locality == "prefer"
    return ClusterOptions(
        balancing=Balancing(choice=policy.balance, by_zone=by_zone, slow_start_s=policy.slow_start_s),
        panic_percent=policy.panic_percent,
        hedged=policy.hedge_after_ms > 0,
    )


def model_route(each: ModelVersion, path: str, name: str | None, policy: Policy) -> RouteSpec:
    """The route of read-only calls below `path` that name the model so, or None for those that name none."""
    return _model_route(each, path, name, policy.retries, policy.hedge_after_ms / 1000, hash_header(policy))


@lru_cache(maxsize=65536)
def _model_route(
    each: ModelVersion, path: str, name: str | None, retries: int, hedge_after_s: float, hashed: str
) -> RouteSpec:
    """Made once: of the thousands of a table few are new when a model comes."""
    return RouteSpec(
        name=each.service,
        path=path,
        header=MODEL_HEADER,
        value=None if name is None else header_value(name),
        cluster=each.cluster,
        retries=retries,
        hedge_after_s=hedge_after_s,
        hash_header=hashed,
    )


def hash_header(policy: Policy) -> str:
    """The header whose value chooses the replica; "" where none does."""
    return policy.hash_by.carrier if policy.balance == "ring_hash" and policy.hash_by else ""


def hash_fields(policies: Mapping[str, Policy]) -> dict[str, dict[str, str]]:
    """By service, the request fields that its policies hash by, each with the header that carries it."""
    found: dict[str, dict[str, str]] = {}
    for service, policy in policies.items():
        for hash_by in (policy.hash_by, *(model.hash_by for model in policy.models.values())):
            if hash_by is not None and hash_by.field is not None:
                found.setdefault(service, {})[hash_by.field] = hash_by.carrier
    return found


def hosts(
    each: ModelVersion, replicas: Sequence[router_pb2.Replica], policy: Policy, *, http: bool = False
) -> tuple[Host, ...]:
    """The replicas of a model version as hosts of its cluster, in the same order.

    Args:
        http: their HTTP listeners, which are checked by a connection to the gRPC port beside.
    """
    # An address that two leases name, one of them of a process that is gone, is one host.
    found: dict[str, Host] = {}
    for replica, weight in zip(replicas, _weights(each, replicas, policy), strict=True):
        address = replica.http_address if http else replica.address
        found.setdefault(
            address,
            Host(
                address=address,
                weight=weight,
                zone=replica.zone if policy.locality == "prefer" else "",
                checked=replica.address if http else "",
            ),
        )
    return tuple(found.values())


def _weights(each: ModelVersion, replicas: Sequence[router_pb2.Replica], policy: Policy) -> list[int]:
    if policy.balance == "ring_hash":
        return [1] * len(replicas)
    return weights([_capacity_rps(each, replica) for replica in replicas])


def weights(capacities_rps: Sequence[float]) -> list[int]:
    """Weights in proportion to capacities, of which 0 or nonsense says that it is not known."""
    known = [rps for rps in capacities_rps if _is_known(rps)]
    if not known:
        return [1] * len(capacities_rps)
    usual = median(known)
    return [_weight(rps if _is_known(rps) else usual) for rps in capacities_rps]


def _weight(rps: float) -> int:
    return max(1, round(min(rps * _STEPS, HIGHEST_WEIGHT)))


def _is_known(rps: float) -> bool:
    return 0 < rps < float("inf")  # NaN is neither


def _capacity_rps(each: ModelVersion, replica: router_pb2.Replica) -> float:
    for model in replica.models:
        if (model.name, model.version) == (each.model, each.version):
            return model.capacity_rps
    return 0.0

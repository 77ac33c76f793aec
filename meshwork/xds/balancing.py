"""How Envoy and gRPC clients are told to spread calls over the hosts of a cluster.

A cluster names its policy as a list, of which a client takes the first that it knows: gRPC does not
know `least_request` and takes the weights of its hosts' own reports in its place, Envoy's
`load_aware_locality` it does not know either and takes `wrr_locality`.

Weights of `weighted_round_robin` are those of gRFC A58: a host's answers a second, divided by its
utilization, as it reports them with its answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meshwork.xds.messages import Values, packed

Choice = Literal["weighted_round_robin", "least_request", "round_robin", "ring_hash"]

# How soon and how often a host's reports count.
BLACKOUT = "0s"
WEIGHT_UPDATE = "0.1s"
WEIGHT_EXPIRATION = "180s"
# How much a host's share of failed answers counts as load (gRFC A58).
ERROR_PENALTY = 1.0
# At its start a new host's weight is this part of what it will be.
SLOW_START_LEAST_PERCENT = 10.0
# Entries of the ring: enough that hosts get equal shares to a few percent, few enough to build in no time.
RING_SIZE = 1024
# Of the calls to a zone that has room, this part goes elsewhere all the same, to see the load there.
PROBE_FRACTION = 0.01

_POLICIES = "envoy.extensions.load_balancing_policies"
_MESSAGES: dict[str, str] = {
    "weighted_round_robin": "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
    "least_request": "least_request.v3.LeastRequest",
    "round_robin": "round_robin.v3.RoundRobin",
    "ring_hash": "ring_hash.v3.RingHash",
    "wrr_locality": "wrr_locality.v3.WrrLocality",
    "load_aware_locality": "load_aware_locality.v3.LoadAwareLocality",
}
# What a client takes that does not know the policy asked for.
_INSTEAD: dict[Choice, tuple[Choice, ...]] = {
    "weighted_round_robin": ("weighted_round_robin", "round_robin"),
    "least_request": ("least_request", "weighted_round_robin", "round_robin"),
    "round_robin": ("round_robin",),
    "ring_hash": ("ring_hash", "round_robin"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Balancing:
    """How calls are spread over the hosts of a cluster.

    Attributes:
        choice: which host takes a call.
        by_zone: whether the caller's zone is preferred while it has room.
        slow_start_s: over how many seconds the share of a new host grows; 0 for none.
    """

    choice: Choice = "weighted_round_robin"
    by_zone: bool = False
    slow_start_s: float = 0.0


def load_balancing_policy(balancing: Balancing) -> Values:
    """The policy asked for as an envoy.config.cluster.v3.LoadBalancingPolicy, and others behind it."""
    policies = [_policy(choice, _values(choice, balancing)) for choice in _INSTEAD[balancing.choice]]
    if not balancing.by_zone or balancing.choice == "ring_hash":
        return {"policies": policies}
    # Both look into one zone at a time, so that a host is chosen there as it is elsewhere.
    child: Values = {"endpoint_picking_policy": {"policies": policies}}
    by_load = {
        **child,
        "weight_update_period": WEIGHT_UPDATE,
        "smoothing_time_constant": "1s",
        "remote_probe_fraction": PROBE_FRACTION,
    }
    return {"policies": [_policy("load_aware_locality", by_load), _policy("wrr_locality", child)]}


def _values(choice: Choice, balancing: Balancing) -> Values:
    values: Values = {}
    if choice == "weighted_round_robin":
        values |= {
            "blackout_period": BLACKOUT,
            "weight_update_period": WEIGHT_UPDATE,
            "weight_expiration_period": WEIGHT_EXPIRATION,
            "error_utilization_penalty": ERROR_PENALTY,
        }
    elif choice == "least_request":
        values["choice_count"] = 2
    elif choice == "ring_hash":
        return {"minimum_ring_size": RING_SIZE, "hash_function": "XX_HASH"}
    # By its reports a new host's weight grows by itself: see meshwork.serving.load.
    if balancing.slow_start_s and choice != "weighted_round_robin":
        values["slow_start_config"] = {
            "slow_start_window": f"{balancing.slow_start_s:g}s",
            "min_weight_percent": {"value": SLOW_START_LEAST_PERCENT},
        }
    return values


def _policy(name: str, values: Values) -> Values:
    # Both kinds of client go by the type of the configuration; the name is for people.
    config = packed(f"{_POLICIES}.{_MESSAGES[name]}", values)
    return {"typed_extension_config": {"name": name, "typed_config": config}}

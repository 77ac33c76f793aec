"""What holds of every plan, whatever leases say and whatever policies there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshwork.names import MODEL_HEADER, header_value
from meshwork.policy import HashBy, ModelPolicy, Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.messages import Values, decode
from meshwork.xds.resources import shares, split_address
from meshwork.xds.routes import MODEL_FILTER
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import contract
from services.router.inference_routes import http_replicas
from services.router.lookup import CLUSTER_HEADER
from services.router.model_versions import named, serving
from services.router.planner import PlanSettings, plan, reachable
from services.router.policy import HIGHEST_WEIGHT, weights
from tests.unit.services.router.edge import Edge
from tests.unit.services.router.test_planner import destination

TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
STATES = st.sampled_from([*router_pb2.ReplicaState.values(), *[router_pb2.REPLICA_STATE_READY] * 4])
MODEL_STATES = st.sampled_from([*router_pb2.ModelState.values(), *[router_pb2.MODEL_STATE_READY] * 4])
ADDRESSES = st.one_of(
    st.builds("10.0.0.{}:{}".format, st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["", "?", "a:b", "10.0.0.1:0", "10.0.0.1:99999", "[::1]:80"]),
)
MODELS = st.builds(
    router_pb2.Model,
    name=st.sampled_from(["m", "n", "vision", "m/n", "é", ""]),
    version=st.sampled_from(["1", "2", "10", ""]),
    state=MODEL_STATES,
    default_methods=st.lists(st.sampled_from(["Embed", "Classify", "RecordEvents", "Zebra"]), max_size=2),
    capacity_rps=st.one_of(st.sampled_from([0.0, -1.0, float("inf"), float("nan")]), st.floats(0, 1e12)),
)
REPLICAS = st.builds(
    router_pb2.Replica,
    name=st.text(max_size=4),
    service=st.sampled_from(["nlp", "vision", "recommendation", "zebra", ""]),
    address=ADDRESSES,
    http_address=ADDRESSES,
    state=STATES,
    zone=st.sampled_from(["", "a", "b", "\n"]),
    models=st.lists(MODELS, max_size=4),
)
CHOICES = st.sampled_from(["weighted_round_robin", "least_request", "round_robin", "ring_hash"])
SAID: dict[str, Any] = {
    "balance": CHOICES,
    "hash_by": st.sampled_from([HashBy(header="x-user"), HashBy(field="user_id")]),
    "locality": st.sampled_from(["any", "prefer"]),
    "retries": st.integers(1, 3),
    "hedge_after_ms": st.sampled_from([0, 50]),
    "panic_percent": st.sampled_from([0, 10, 100]),
    "slow_start_s": st.sampled_from([0, 5]),
}
MODEL_POLICIES = st.builds(ModelPolicy, **{name: st.none() | of for name, of in SAID.items()})
POLICIES = st.dictionaries(
    st.sampled_from(["nlp", "vision", "recommendation"]),
    st.builds(Policy, **SAID, models=st.dictionaries(st.sampled_from(["m", "m@1", "n@2"]), MODEL_POLICIES)),
)
LEASES = st.lists(REPLICAS, max_size=6, unique_by=lambda replica: replica.name)
GATEWAY = Resource("gateway", b"")
FORGED = {MODEL_HEADER: "n@1", CLUSTER_HEADER: "http/nlp/n@1"}  # a caller's own headers


def settings_with(policies: dict[str, Policy]) -> PlanSettings:
    return PlanSettings(
        services=contract.services(), routers=("127.0.0.1:9000",), policies=policies, gateways=(GATEWAY,)
    )


def routes_of(snapshot: Snapshot) -> Iterator[Values]:
    for table in snapshot.resources(ROUTES).values():
        (host,) = decode("envoy.config.route.v3.RouteConfiguration", table.body)["virtual_hosts"]
        yield from host["routes"]


def endpoints_of(snapshot: Snapshot) -> Iterator[tuple[str, Values, str]]:
    """Cluster, endpoint and zone."""
    for name, resource in snapshot.resources(ENDPOINTS).items():
        message = decode("envoy.config.endpoint.v3.ClusterLoadAssignment", resource.body)
        for locality in message.get("endpoints", ()):
            for endpoint in locality["lb_endpoints"]:
                yield name, endpoint, locality.get("locality", {}).get("zone", "")


def is_address(text: str) -> bool:
    try:
        split_address(text)
    except ValueError:
        return False
    return True


def address_of(endpoint: Values) -> str:
    found = endpoint["endpoint"]["address"]["socket_address"]
    host, port = found["address"], found["port_value"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@given(LEASES, POLICIES)
def test_every_cluster_that_a_route_names_is_there_with_its_endpoints(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    snapshot = plan(leases, settings_with(policies))
    clusters = snapshot.resources(CLUSTER)
    actions = [route["route"] for route in routes_of(snapshot) if "route" in route]
    named = {action["cluster"] for action in actions if "cluster_header" not in action}
    assert named <= clusters.keys()
    assert clusters.keys() == snapshot.resources(ENDPOINTS).keys()
    asked = {name for name in snapshot.resources(LISTENER) if name != "gateway"}
    assert asked <= snapshot.resources(ROUTES).keys()
    assert {name for name, _, _ in endpoints_of(snapshot)} == clusters.keys()


@given(LEASES, POLICIES)
@settings(max_examples=50, deadline=None)
def test_the_gateway_sends_a_call_where_a_grpc_client_does(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    snapshot = plan(leases, settings_with(policies))
    edge = Edge(snapshot)
    for service, method in (("nlp", "Embed"), ("vision", "Classify"), ("recommendation", "RecordEvents")):
        path = contract.services()[service].methods[method].path
        for model in (None, "m", "m@1", "m@10", "n", "m/n", "é", "zebra"):
            header = None if model is None else header_value(model)
            expected = destination(snapshot, service, path, header)
            fields = {} if model is None else {"model": model}
            found, headers = edge.send(path, fields)
            if MODEL_FILTER in edge.last.get("typed_per_filter_config", {}):
                # It has one model, whose replicas say that they have no other.
                (only,) = {name for name in snapshot.resources(CLUSTER) if name.startswith(f"{service}/")}
                assert found == only
            else:
                assert found == expected
                assert headers.get(MODEL_HEADER) == header
                assert edge.send(path, fields, FORGED)[0] == found


@given(LEASES, POLICIES)
@settings(max_examples=50, deadline=None)
def test_the_gateway_finds_a_model_of_the_open_inference_protocol_by_any_of_its_names(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    edge = Edge(plan(leases, settings_with(policies)))
    table = serving(found for each in leases if (found := reachable(each)) is not None)
    by_http = http_replicas(table)
    assert edge.send("/v2/models/zebra", sent=FORGED)[0] == 404
    for name, each in named(table).items():
        fields = {"model_name": name} if name else {}
        found, _ = edge.send("/inference.GRPCInferenceService/ModelInfer", fields, FORGED)
        assert found == (each.cluster if name else "router")
        model, _, version = name.partition("@")
        if model and model.isascii() and not name.endswith("@"):
            path = f"/v2/models/{model}/versions/{version}" if version else f"/v2/models/{model}"
            at = edge.send(f"{path}/infer", sent=FORGED)[0]
            if each in by_http:
                assert at == f"http/{each.cluster}"


@given(LEASES, POLICIES, st.randoms(use_true_random=False))
def test_the_same_state_in_any_order_has_the_same_version(
    leases: list[router_pb2.Replica], policies: dict[str, Policy], random: Any
) -> None:
    version = plan(leases, settings_with(policies)).version
    random.shuffle(leases)
    shuffled = dict(random.sample(sorted(policies.items()), len(policies)))
    assert plan(leases, settings_with(shuffled)).version == version


@given(LEASES, POLICIES)
def test_no_endpoint_is_of_a_replica_or_model_that_is_not_ready(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    def has(cluster: str, states: set[int]) -> set[str]:
        """Addresses of the ready replicas, of those that can be reached, with the model in such a state."""
        return {
            replica.http_address if cluster.startswith("http/") else replica.address
            for replica in leases
            for model in replica.models
            if replica.state == router_pb2.REPLICA_STATE_READY
            and is_address(replica.address)
            and model.state in states
            and f"{replica.service}/{model.name}@{model.version}" == cluster.removeprefix("http/")
        }

    snapshot = plan(leases, settings_with(policies))
    for cluster, endpoint, _ in endpoints_of(snapshot):
        if cluster != "router":
            ready = has(cluster, {router_pb2.MODEL_STATE_READY})
            assert address_of(endpoint) in (ready or has(cluster, {router_pb2.MODEL_STATE_UNLOADED}))


@given(LEASES, POLICIES)
def test_every_endpoint_has_a_weight_that_envoy_can_add_up_and_no_address_comes_twice(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    seen: set[tuple[str, str]] = set()
    for cluster, endpoint, _ in endpoints_of(plan(leases, settings_with(policies))):
        assert 1 <= endpoint["load_balancing_weight"] <= HIGHEST_WEIGHT
        assert (cluster, address_of(endpoint)) not in seen
        seen.add((cluster, address_of(endpoint)))


@given(st.lists(st.floats(), max_size=8))
def test_weights_are_never_zero_whatever_leases_say(capacities: list[float]) -> None:
    assert all(1 <= weight <= HIGHEST_WEIGHT for weight in weights(capacities))
    assert len(weights(capacities)) == len(capacities)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=50)
def test_weights_are_in_proportion_and_what_is_not_known_is_in_the_middle(known: list[int], at: int) -> None:
    found = weights([float(rps) for rps in known])
    assert found == [100 * rps for rps in known]
    with_unknown = weights([*map(float, known[:at]), 0.0, *map(float, known[at:])])
    middle = with_unknown.pop(min(at, len(known)))
    assert with_unknown == found
    assert min(found) <= middle <= max(found)


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 10_000), min_size=2, max_size=5), st.data())
def test_a_zone_keeps_its_calls_as_far_as_it_has_capacity(weights_of: dict[str, int], data: Any) -> None:
    zone = data.draw(st.sampled_from(sorted(weights_of)))
    fair = sum(weights_of.values()) / len(weights_of)
    found = shares(weights_of, zone)
    assert found[zone] > 0
    assert all(share > 0 for share in found.values())
    if weights_of[zone] >= fair:
        assert found.keys() == {zone}
    else:
        assert all(weights_of[other] > fair for other in found.keys() - {zone})
        assert abs(sum(found.values()) - fair) <= len(found)


@given(LEASES, POLICIES)
def test_what_a_zone_is_shown_are_the_hosts_that_there_are(
    leases: list[router_pb2.Replica], policies: dict[str, Policy]
) -> None:
    def hosts_of(resource: Resource) -> list[tuple[str, str]]:
        message = decode("envoy.config.endpoint.v3.ClusterLoadAssignment", resource.body)
        priorities = {locality.get("priority", 0) for locality in message["endpoints"]}
        assert priorities in ({0}, {0, 1})
        return sorted(
            (locality.get("locality", {}).get("zone", ""), address_of(endpoint))
            for locality in message["endpoints"]
            for endpoint in locality["lb_endpoints"]
        )

    for resource in plan(leases, settings_with(policies)).resources(ENDPOINTS).values():
        for _, view in resource.views:
            assert hosts_of(view) == hosts_of(resource)

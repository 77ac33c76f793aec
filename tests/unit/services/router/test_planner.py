import functools
from dataclasses import replace
from urllib.parse import unquote

import pytest

from meshwork.names import header_value, version_order
from meshwork.policy import HashBy, Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.messages import Values, decode
from meshwork.xds.routes import MODEL_FILTER
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Snapshot
from services.router import contract
from services.router.config import RouterConfig
from services.router.fallback import explain
from services.router.planner import PlanSettings, plan
from services.router.router import plan_settings
from tests.unit.services.router.edge import Edge

READY = router_pb2.REPLICA_STATE_READY
SETTINGS = PlanSettings(services=contract.services(), routers=("127.0.0.1:9000",))


def replica(
    name: str,
    *models: str,
    service: str = "nlp",
    state: router_pb2.ReplicaState.ValueType = READY,
    default: tuple[str, ...] = ("Embed",),
    address: str = "",
) -> router_pb2.Replica:
    made = router_pb2.Replica(
        name=name, service=service, state=state, address=address or f"10.0.0.1:{len(name)}"
    )
    for model in models:
        named, _, version = model.partition("@")
        made.models.add(
            name=named, version=version, state=router_pb2.MODEL_STATE_READY, default_methods=default
        )
    return made


def hosts(snapshot: Snapshot, cluster: str) -> list[int]:
    body = snapshot.resources(ENDPOINTS)[cluster].body
    return [
        host["endpoint"]["address"]["socket_address"]["port_value"]
        for locality in decode("envoy.config.endpoint.v3.ClusterLoadAssignment", body).get("endpoints", ())
        for host in locality["lb_endpoints"]
    ]


def table_of(snapshot: Snapshot, name: str) -> list[Values]:
    body = snapshot.resources(ROUTES)[name].body
    found: list[Values] = decode("envoy.config.route.v3.RouteConfiguration", body)["virtual_hosts"][0][
        "routes"
    ]
    return found


def destination(snapshot: Snapshot, table: str, path: str, model: str | None) -> str:
    """The cluster to which `table` sends a call, as a proxy would look it up."""
    for route in table_of(snapshot, table):
        match = route["match"]
        if path != match.get("path") and not path.startswith(match.get("prefix", "nowhere")):
            continue
        if all(
            (model is None) if header.get("invert_match") else header["string_match"]["exact"] == model
            for header in match.get("headers", ())
        ):
            return str(route["route"]["cluster"])
    return "none"


embed = functools.partial(destination, table="nlp", path="/meshwork.nlp.v1.NlpService/Embed")


def test_a_ready_model_of_a_ready_replica_gets_calls() -> None:
    snapshot = plan([replica("a", "m@1"), replica("bb", "m@1")], SETTINGS)
    assert hosts(snapshot, "nlp/m@1") == [1, 2]
    for model in (None, "m", "m@1"):
        assert embed(snapshot, model=model) == "nlp/m@1"


@pytest.mark.parametrize(
    "state", [router_pb2.REPLICA_STATE_STARTING, router_pb2.REPLICA_STATE_DRAINING, READY]
)
def test_a_replica_or_model_that_is_not_ready_gets_none(state: router_pb2.ReplicaState.ValueType) -> None:
    loading = replica("a", "m@1", state=state)
    if state == READY:
        loading.models[0].state = router_pb2.MODEL_STATE_LOADING
    snapshot = plan([loading], SETTINGS)
    assert set(snapshot.resources(CLUSTER)) == {"router"}
    assert embed(snapshot, model="m") == "router"


def test_a_model_without_version_is_its_highest_one() -> None:
    snapshot = plan([replica("a", "m@9", "m@10")], SETTINGS)
    assert embed(snapshot, model="m") == "nlp/m@10"
    assert embed(snapshot, model="m@9") == "nlp/m@9"
    assert embed(snapshot, model=None) == "nlp/m@10"


@pytest.mark.parametrize(
    ("versions", "highest"),
    [(["1", "2"], "2"), (["9", "10"], "10"), (["1.9", "1.10"], "1.10"), (["a", "b"], "b"), (["a", "1"], "1")],
)
def test_numbers_in_versions_compare_as_numbers(versions: list[str], highest: str) -> None:
    assert max(versions, key=version_order) == highest
    assert max(reversed(versions), key=version_order) == highest


def test_what_most_replicas_call_the_default_is_it() -> None:
    replicas = [replica("a", "x@1"), replica("bb", "y@1"), replica("ccc", "y@1")]
    assert embed(plan(replicas, SETTINGS), model=None) == "nlp/y@1"
    assert embed(plan(replicas[:2], SETTINGS), model=None) == "nlp/x@1"


def test_unknown_models_and_absent_services_go_to_the_router() -> None:
    snapshot = plan([replica("a", "m@1")], SETTINGS)
    assert embed(snapshot, model="nope") == "router"
    assert destination(snapshot, "vision", "/meshwork.vision.v1.VisionService/Classify", None) == "router"


def test_calls_that_change_something_are_made_again_if_they_are_remembered_or_were_not_sent() -> None:
    default = ("RecordEvents", "Recommend")
    snapshot = plan([replica("a", "m@1", service="recommendation", default=default)], SETTINGS)
    path = "/meshwork.recommendation.v1.RecommendationService/RecordEvents"
    routes = [route for route in table_of(snapshot, "recommendation") if route["match"].get("path") == path]
    assert len(routes) == 6
    for route in routes:
        remembered = {"name": "meshwork-idempotency", "string_match": {"exact": "1"}}
        safe = remembered in route["match"]["headers"]
        retried = (
            "unavailable,cancelled,connect-failure,reset,refused-stream"
            if safe
            else "connect-failure,refused-stream"
        )
        assert route["route"]["retry_policy"]["retry_on"] == retried
    # The first that matches is taken.
    assert [len(route["match"]["headers"]) for route in routes] == [2, 1, 2, 1, 2, 1]


def test_the_gateway_reads_a_request_only_where_its_model_matters() -> None:
    def reads(*models: str, method: str = "Embed", policies: dict[str, Policy] | None = None) -> bool:
        gateways = (Resource("gateway", b""),)
        settings = replace(SETTINGS, gateways=gateways, policies=policies or {})
        edge = Edge(plan([replica("a", *models, default=("Embed", "Generate"))], settings))
        edge.send(f"/meshwork.nlp.v1.NlpService/{method}", {})
        return MODEL_FILTER not in edge.last.get("typed_per_filter_config", {})

    assert not reads("m@1")
    assert reads("m@1", "n@1")
    assert reads("m@1", "m@2")
    assert reads("m@1", method="Generate"), "a stream is not held whole"
    by_field = Policy(balance="ring_hash", hash_by=HashBy(field="query"))
    assert reads("m@1", policies={"nlp": by_field})


def test_the_same_leases_in_any_order_give_the_same_version() -> None:
    a, b = replica("a", "m@1"), replica("bb", "n@1")
    assert plan([a, b], SETTINGS).version == plan([b, a], SETTINGS).version
    assert plan([a], SETTINGS).version != plan([a, b], SETTINGS).version


def test_a_replica_whose_address_is_nonsense_costs_the_others_nothing() -> None:
    broken = [
        replica(f"x{index}", "m@1", address=text) for index, text in enumerate(("?", "a", "a:b", "a:0"))
    ]
    assert hosts(plan([*broken, replica("a", "m@1")], SETTINGS), "nlp/m@1") == [1]


def test_grpc_clients_find_each_service_and_envoy_only_its_gateway() -> None:
    without = plan((), SETTINGS)
    assert {"nlp", "vision", "router"} <= set(without.resources(LISTENER))
    assert not any(resource.listed for resource in without.resources(LISTENER).values())
    settings = plan_settings(RouterConfig(gateway_listen="127.0.0.1:8080"))
    listed = [name for name, each in plan((), settings).resources(LISTENER).items() if each.listed]
    assert listed == ["gateway/127.0.0.1:8080"]


def test_every_router_makes_the_same_snapshot_in_which_each_gateway_gets_its_own_listener() -> None:
    routers, gateways = ("127.0.0.1:9000", "127.0.0.1:9001"), ("127.0.0.1:8080", "127.0.0.1:8081")
    snapshots = [
        plan(
            [replica("a", "m@1")],
            plan_settings(
                RouterConfig(
                    router_listen=address, routers=routers, gateway_listen=own, gateways=gateways, mesh="m"
                )
            ),
        )
        for address, own in zip((*routers, "127.0.0.1:9002"), (*gateways, ""), strict=True)
    ]
    assert len({snapshot.version for snapshot in snapshots}) == 1
    for gateway in gateways:
        offered = [
            each for each in snapshots[0].resources(LISTENER).values() if each.offered(f"gateway/m/{gateway}")
        ]
        assert [each.name for each in offered] == [f"gateway/{gateway}"]


def test_a_model_name_in_a_header_is_plain_ascii_and_reads_back() -> None:
    for name in ("minilm@1", "mini\nlm", "é", "50%", "a b"):
        assert header_value(name).isascii()
        assert header_value(name).isprintable()
        assert unquote(header_value(name)) == name


def test_the_fallback_says_what_is_missing() -> None:
    services = contract.services()
    path = "/meshwork.nlp.v1.NlpService/Embed"
    there = {"a": replica("a", "m@1")}
    assert "it has: m@1" in str(explain(path, "nope", there, services))
    assert "no ready replica (it has none)" in str(explain(path, "", {}, services))
    starting = {"a": replica("a", state=router_pb2.REPLICA_STATE_STARTING)}
    assert "1 starting" in str(explain(path, "", starting, services))
    assert "has just become ready" in str(explain(path, "", there, services))
    other = path.replace("Embed", "MatchTexts")
    assert "name one of: m@1" in str(explain(other, "", there, services))

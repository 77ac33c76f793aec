from __future__ import annotations

from dataclasses import replace

import pytest

from meshwork.policy import ModelPolicy, Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.messages import Values, decode
from meshwork.xds.resources import socket_address
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, ROUTES, Resource, Snapshot
from services.router import contract
from services.router.model_versions import named, serving
from services.router.planner import GATEWAY, PlanSettings, plan
from tests.unit.services.router.edge import Edge

INFER = "/inference.GRPCInferenceService/ModelInfer"


def replica(
    name: str, service: str, *models: str, http: bool = True, state: int = router_pb2.MODEL_STATE_READY
) -> router_pb2.Replica:
    made = router_pb2.Replica(
        name=name,
        service=service,
        address=f"10.0.0.{len(name)}:1",
        http_address=f"10.0.0.{len(name)}:2" if http else "",
        state=router_pb2.REPLICA_STATE_READY,
    )
    for model in models:
        named, _, version = model.partition("@")
        made.models.add(name=named, version=version, state=state)  # type: ignore[arg-type]
    return made


SETTINGS = PlanSettings(
    services=contract.services(), routers=("127.0.0.1:9000",), gateways=(Resource("gateway", b""),)
)
# By policies of their own some models have routes of their own.
APART = replace(SETTINGS, policies={"nlp": Policy(models={"m": ModelPolicy(retries=1)})})
both = pytest.mark.parametrize("settings", [SETTINGS, APART], ids=["looked up", "apart"])


def by_grpc(replicas: list[router_pb2.Replica], model: str, settings: PlanSettings = SETTINGS) -> str | int:
    """The cluster of a call."""
    name, _, version = model.partition("@")
    fields = {"model_name": name} | ({"model_version": version} if version else {})
    return Edge(plan(replicas, settings)).send(INFER, fields)[0]


def by_rest(replicas: list[router_pb2.Replica], path: str, settings: PlanSettings = SETTINGS) -> str | int:
    """The cluster of a request, or the status it is answered with at once."""
    return Edge(plan(replicas, settings)).send(path)[0]


TWO = [replica("a", "nlp", "m@9", "m@10", "n@1"), replica("bb", "vision", "m@11", "p@1")]


@pytest.mark.parametrize(
    ("model", "cluster"),
    [
        ("m", "nlp/m@10"),
        ("m@9", "nlp/m@9"),
        ("m@11", "vision/m@11"),
        ("vision/m", "vision/m@11"),
        ("vision/m@11", "vision/m@11"),
        ("nlp/m@9", "nlp/m@9"),
        ("p", "vision/p@1"),
        ("nlp/p", "router"),
        ("zebra", "router"),
        ("", "router"),
    ],
)
@both
def test_a_model_is_found_in_the_first_service_or_in_the_one_that_is_said(
    model: str, cluster: str, settings: PlanSettings
) -> None:
    assert by_grpc(TWO, model, settings) == cluster


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        ("m", "http/nlp/m@10"),
        ("m/infer", "http/nlp/m@10"),
        ("m/versions/9/infer", "http/nlp/m@9"),
        ("m/versions/11", "http/vision/m@11"),
        ("vision/m/ready", "http/vision/m@11"),
        ("vision/m/versions/11/infer", "http/vision/m@11"),
        ("mm/infer", 404),
        ("zebra", 404),
    ],
)
@both
def test_rest_paths_lead_where_names_do(path: str, goes: str | int, settings: PlanSettings) -> None:
    assert by_rest(TWO, f"/v2/models/{path}", settings) == goes


def test_a_model_that_is_named_like_a_service_does_not_hide_its_models() -> None:
    replicas = [*TWO, replica("ccc", "speech", "vision@1")]
    own = ModelPolicy(retries=1)
    for models in ({}, {"vision": {"m": own}}, {"speech": {"vision": own}}):
        policies = {service: Policy(models=of) for service, of in models.items()}
        settings = replace(SETTINGS, policies=policies)
        assert by_rest(replicas, "/v2/models/vision/m/infer", settings) == "http/vision/m@11"
        assert by_rest(replicas, "/v2/models/vision/infer", settings) == "http/speech/vision@1"


def test_a_path_is_not_looked_at_for_longer_than_a_name_can_be() -> None:
    assert by_rest(TWO, "/v2/models/" + "a/" * 20_000) == 404
    assert by_rest(TWO, "/v2/models/m/infer?versions=/v2/models/n") == "http/nlp/m@10"


def test_replicas_without_http_get_no_rest() -> None:
    replicas = [replica("a", "nlp", "m@1", http=False)]
    assert by_grpc(replicas, "m") == "nlp/m@1"
    assert by_rest(replicas, "/v2/models/m") == 404


def test_the_mesh_is_ready_in_rest_once_a_model_is() -> None:
    assert by_rest([], "/v2/health/ready") == 503
    assert by_rest([], "/v2/health/live") == 200
    assert by_rest(TWO, "/v2/health/ready") == 200


def test_a_model_that_loads_when_called_has_routes() -> None:
    replicas = [replica("a", "nlp", "m@1", state=router_pb2.MODEL_STATE_UNLOADED)]
    assert by_grpc(replicas, "m") == "nlp/m@1"
    assert by_rest(replicas, "/v2/models/m/infer") == "http/nlp/m@1"


@both
def test_streams_and_loads_are_not_begun_twice(settings: PlanSettings) -> None:
    snapshot = plan(TWO, settings)
    of_oip = [route for route in Edge(snapshot).routes if "inference.GRPC" in str(route["match"])]
    unsafe = "connect-failure,refused-stream"
    for route in of_oip:
        if "path" in route["match"]:
            assert route["route"]["retry_policy"]["retry_on"] == unsafe
        elif route["match"].get("headers"):  # the others have what is said once for the table
            assert "retry_on" not in route["route"].get("retry_policy", {}) or settings is APART
    assert {route["match"]["path"].rpartition("/")[2] for route in of_oip if "path" in route["match"]} == {
        "ModelStreamInfer",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    }


def test_the_models_that_there_are_stand_in_the_404_and_are_bounded() -> None:
    many = [replica("a", "nlp", *(f"m{number:03}@1" for number in range(300)))]
    (missing,) = (
        route["direct_response"]["body"]["inline_string"]
        for route in Edge(plan(many, SETTINGS)).routes
        if route["match"].get("prefix") == "/v2/models/" and "direct_response" in route
    )
    assert "m000, m001" in missing
    assert len(missing) < 4096  # Envoy takes no longer one


def test_names_are_the_same_whatever_order_replicas_come_in() -> None:
    assert named(serving(TWO)) == named(serving(reversed(TWO)))


def test_http_clusters_are_checked_on_the_grpc_port_and_speak_http_1() -> None:
    snapshot: Snapshot = plan(TWO, SETTINGS)
    cluster: Values = decode(
        "envoy.config.cluster.v3.Cluster", snapshot.resources(CLUSTER)["http/nlp/n@1"].body
    )
    assert "tcp_health_check" in cluster["health_checks"][0]
    assignment = decode(
        "envoy.config.endpoint.v3.ClusterLoadAssignment", snapshot.resources(ENDPOINTS)["http/nlp/n@1"].body
    )
    (host,) = assignment["endpoints"][0]["lb_endpoints"]
    assert host["endpoint"]["address"] == socket_address("10.0.0.1:2")
    assert host["endpoint"]["health_check_config"]["address"] == socket_address("10.0.0.1:1")
    assert GATEWAY in snapshot.resources(ROUTES)


def test_replicas_may_give_back_their_window_as_often_as_streams_of_small_messages_need() -> None:
    body = (
        plan(TWO, PlanSettings(services=contract.services(), routers=("127.0.0.1:9000",)))
        .resources(CLUSTER)["nlp/n@1"]
        .body
    )
    cluster = decode("envoy.config.cluster.v3.Cluster", body)
    (options,) = cluster["typed_extension_protocol_options"].values()
    http2 = options["explicit_http_config"]["http2_protocol_options"]
    # Envoy's default of 10 broke a stream in some hundreds, and with it all calls of the connection.
    assert http2["max_inbound_window_update_frames_per_data_frame_sent"] >= 100_000

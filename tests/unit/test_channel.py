"""Addresses, targets and the xDS bootstrap."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

import meshwork
from meshwork import channel
from meshwork.errors import InvalidArgument, Unavailable
from tests.unit.recording_server import Recorder, recording


def test_each_service_has_its_own_target_only_through_xds() -> None:
    assert channel.target("127.0.0.1:8080", "nlp") == "127.0.0.1:8080"
    assert channel.target("xds:///", "nlp") == "xds:///nlp"


def test_the_bootstrap_names_the_router_and_the_environment_s_own_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    channel.use_xds("127.0.0.1:9000")
    made: Any = json.loads(os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"])
    assert made["xds_servers"][0]["server_uri"] == "127.0.0.1:9000"
    channel.use_xds("127.0.0.1:9001")
    assert json.loads(os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"]) == made
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP_CONFIG")
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP", "/etc/bootstrap.json")
    channel.use_xds("127.0.0.1:9000")
    assert "GRPC_XDS_BOOTSTRAP_CONFIG" not in os.environ


def test_several_routers_are_one_server_with_several_addresses_and_the_zone_says_where_we_are() -> None:
    made: Any = json.loads(channel.xds_bootstrap("127.0.0.1:9000,127.0.0.1:9001", zone="cellar"))
    assert made["node"]["locality"] == {"zone": "cellar"}
    uri = made["xds_servers"][0]["server_uri"]
    assert set(uri.removeprefix("ipv4:").split(",")) == {"127.0.0.1:9000", "127.0.0.1:9001"}


def test_clients_do_not_all_ask_the_same_router() -> None:
    routers = "127.0.0.1:9000,127.0.0.1:9001"
    uris = {json.loads(channel.xds_bootstrap(routers))["xds_servers"][0]["server_uri"] for _ in range(64)}
    assert len(uris) == 2


@pytest.mark.parametrize("given", ["a:1, b:2,a:1", ["a:1", "b:2"], ["a:1,b:2"]])
def test_addresses_come_by_comma_or_as_a_list_each_once(given: Any) -> None:
    assert channel.addresses(given) == ("a:1", "b:2")


@pytest.mark.parametrize("given", [[], ",", "a:1,b", "a:1,:2", "a:1,xds:///", ["a:1", "http://b:2"]])
def test_of_several_addresses_each_is_host_and_port(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="host:port") as refusal:
        meshwork.connect(given)
    assert refusal.value.field == "address"


def test_several_addresses_are_one_target_of_numbers() -> None:
    assert channel.target("127.0.0.1:1,127.0.0.2:2") == "ipv4:127.0.0.1:1,127.0.0.2:2"
    assert channel.target(["127.0.0.1:1", "[::1]:2"]) == "ipv6:[::ffff:127.0.0.1]:1,[::1]:2"


def test_a_name_among_several_is_looked_up_and_left_out_if_nobody_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lookup(host: str, port: str, **_: Any) -> list[Any]:
        if host == "gone":
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host.replace("west", "10.0.0.7"), int(port)))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert channel.target("west:1,gone:2") == "ipv4:10.0.0.7:1"
    with pytest.raises(Unavailable, match="gone:1, gone:2"):
        channel.target("gone:1,gone:2")


def test_both_of_two_gateways_get_calls_of_either_family(recorder: Recorder) -> None:
    with recording() as other, meshwork.connect(f"{recorder.address},{other.address}") as mesh:
        for _ in range(20):
            mesh.nlp.embed("x")
        assert len(recorder.calls) >= 5
        assert len(other.calls) >= 5
        port = other.address.rpartition(":")[2]
        with meshwork.connect(f"{recorder.address},[::ffff:127.0.0.1]:{port}") as mapped:
            mapped.nlp.embed("x")


@pytest.mark.parametrize("hang_s", [0, -1, float("nan"), 1e9])
def test_a_hang_is_neither_no_time_nor_for_ever(hang_s: float) -> None:
    with pytest.raises(InvalidArgument, match="seconds") as refusal:
        meshwork.connect(hang_s=hang_s)
    assert refusal.value.field == "hang_s"


def test_a_gateway_that_is_not_there_costs_no_call(recorder: Recorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    with meshwork.connect([nobody, recorder.address]) as mesh:
        for _ in range(10):
            mesh.nlp.embed("x")
    assert len(recorder.calls) == 10


def test_a_gateway_that_never_speaks_costs_no_call(recorder: Recorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, by its backlog, and says nothing
        silent = f"127.0.0.1:{server.getsockname()[1]}"
        with meshwork.connect([silent, recorder.address]) as mesh:
            for _ in range(10):
                mesh.nlp.embed("x")
    assert len(recorder.calls) == 10

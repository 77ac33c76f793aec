"""What Prometheus is told to scrape."""

from __future__ import annotations

from meshwork.router.v1 import router_pb2
from services.router.scrape_targets import targets


def test_replicas_routers_and_gateways_are_told_each_by_its_labels() -> None:
    replicas = {
        "b": router_pb2.Replica(name="b", service="nlp", http_address="10.0.0.7:2", zone="east"),
        "a": router_pb2.Replica(name="a", service="nlp"),  # its HTTP listener is off
    }
    routers = [
        router_pb2.Router(name="r2", http_address="10.0.0.6:9"),
        router_pb2.Router(name="r1", http_address="10.0.0.5:9", gateway="0.0.0.0:8080"),
        router_pb2.Router(name="r3", gateway="0.0.0.0:8081"),
    ]
    found = [(each["targets"], each["labels"]) for each in targets(replicas, routers)]
    assert found == [
        (["10.0.0.7:2"], {"service": "nlp", "replica": "b", "zone": "east"}),
        (["10.0.0.5:9"], {"service": "router", "router": "r1"}),
        (
            ["10.0.0.5:9"],
            {
                "__metrics_path__": "/gateway/metrics",
                "service": "gateway",
                "router": "r1",
                "gateway": "0.0.0.0:8080",
            },
        ),
        (["10.0.0.6:9"], {"service": "router", "router": "r2"}),
    ]

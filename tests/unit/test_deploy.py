"""What `deploy/` says fits together, and fits what the mesh says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_every_file_that_a_container_mounts_is_there() -> None:
    for service in read("compose.yaml")["services"].values():
        for volume in service.get("volumes", ()):
            source = DEPLOY / volume.split(":")[0]
            assert source.exists(), source


def test_the_collectors_pipeline_names_only_what_is_configured() -> None:
    config = read("jaeger/collector.yaml")
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])


def test_failed_and_slow_traces_are_always_kept() -> None:
    policies = read("jaeger/collector.yaml")["processors"]["tail_sampling"]["policies"]
    kinds = {policy["type"]: policy for policy in policies}
    assert kinds["status_code"]["status_code"]["status_codes"] == ["ERROR"]
    assert kinds["latency"]["latency"]["threshold_ms"] == 1000


def test_the_collector_listens_where_the_mesh_is_told_to_send() -> None:
    compose, config = read("compose.yaml"), read("jaeger/collector.yaml")
    port = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    assert compose["services"]["collector"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"--otlp http://127.0.0.1:{port}" in (DEPLOY / "compose.yaml").read_text()

"""Which calls the SDK repeats."""

from __future__ import annotations

import json
from typing import Any

from meshwork.contract import SERVICES, descriptor
from meshwork.retries import repeatable, service_config


def test_of_the_contract_only_what_changes_models_and_processes_may_not_be_repeated() -> None:
    services = [descriptor(name) for name in (*SERVICES, "router", "admin")]
    never = {method.name for each in services for method in each.methods if not repeatable(method)}
    assert never == {"AddModel", "LoadModel", "UnloadModel", "RemoveModel", "DrainReplica", "RestartService"}


def test_the_service_config_names_each_method_that_is_repeated_and_no_other() -> None:
    made: Any = json.loads(service_config([descriptor("recommendation"), descriptor("admin")]))
    (entry,) = made["methodConfig"]
    names = {f"{name['service']}/{name['method']}" for name in entry["name"]}
    assert names == {
        "meshwork.admin.v1.AdminService/GetDiscovery",
        "meshwork.admin.v1.AdminService/GetRestart",
        "meshwork.recommendation.v1.RecommendationService/RecordEvents",
        "meshwork.recommendation.v1.RecommendationService/Recommend",
        "meshwork.recommendation.v1.RecommendationService/SimilarItems",
    }

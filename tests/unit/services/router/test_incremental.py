from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshwork.policy import Policy
from meshwork.router.v1 import router_pb2
from meshwork.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ORDER, ROUTES, differences
from services.router.incremental import Planner
from services.router.model_versions import serving
from services.router.planner import plan, reachable
from tests.unit.services.router.test_plan_properties import POLICIES, REPLICAS, settings_with
from tests.unit.services.router.test_planner import replica

# Few names, so that replicas change and go as often as they come.
STEPS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.none() | REPLICAS, min_size=1), min_size=1, max_size=6
)


@given(STEPS, POLICIES)
def test_any_sequence_of_changes_gives_the_snapshot_that_is_planned_from_nothing(
    steps: list[dict[str, router_pb2.Replica | None]], policies: dict[str, Policy]
) -> None:
    planner = Planner(settings_with(policies))
    replicas: dict[str, router_pb2.Replica] = {}
    for step in steps:
        for name, changed in step.items():
            replicas.pop(name, None)
            if changed is not None:
                changed.name = name
                replicas[name] = changed
        snapshot = planner.update(step, replicas)
        whole = plan(replicas.values(), settings_with(policies))
        for type_url in ORDER:
            assert snapshot.resources(type_url) == whole.resources(type_url)
        assert snapshot.version == whole.version
        table = serving(found for each in replicas.values() if (found := reachable(each)))
        assert planner.serving == {each.service for each in table}


def test_another_replica_changes_the_endpoints_of_its_models_and_nothing_else() -> None:
    planner = Planner(settings_with({}))
    replicas = {"a": replica("a", "m@1", "n@1"), "bb": replica("bb", "m@1")}
    before = planner.update(replicas, replicas)
    replicas["ccc"] = replica("ccc", "m@1")
    changed = differences(before, planner.update(["ccc"], replicas))
    assert changed == {CLUSTER: set(), ENDPOINTS: {"nlp/m@1"}, LISTENER: set(), ROUTES: set()}


def test_a_model_that_comes_changes_the_routes_of_its_service_only() -> None:
    planner = Planner(settings_with({}))
    replicas = {"a": replica("a", "m@1"), "v": replica("v", "digits@1", service="vision")}
    before = planner.update(replicas, replicas)
    replicas["bb"] = replica("bb", "n@1")
    changed = differences(before, planner.update(["bb"], replicas))
    assert changed[CLUSTER] == changed[ENDPOINTS] == {"nlp/n@1"}
    assert changed[ROUTES] == {"nlp", "gateway"}

"""Which replicas serve which version of which model, as their leases say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshwork.names import version_order
from meshwork.router.v1 import router_pb2


@dataclass(frozen=True, order=True, slots=True)
class ModelVersion:
    """A version of a model of a service."""

    service: str
    model: str
    version: str

    @property
    def name(self) -> str:
        """As callers name it."""
        return f"{self.model}@{self.version}"

    @property
    def cluster(self) -> str:
        """The cluster of the replicas that have it ready."""
        return f"{self.service}/{self.name}"


def serving(replicas: Iterable[router_pb2.Replica]) -> dict[ModelVersion, list[router_pb2.Replica]]:
    """Which replicas, by name, take calls for which model version.

    Those that have it ready; where none has, those that load it when they are called.
    """
    ready: dict[ModelVersion, list[router_pb2.Replica]] = defaultdict(list)
    loads: dict[ModelVersion, list[router_pb2.Replica]] = defaultdict(list)
    for replica in sorted(replicas, key=lambda replica: replica.name):
        if replica.state != router_pb2.REPLICA_STATE_READY:
            continue
        for model in replica.models:
            each = ModelVersion(replica.service, model.name, model.version)
            if model.state == router_pb2.MODEL_STATE_READY:
                ready[each].append(replica)
            elif model.state == router_pb2.MODEL_STATE_UNLOADED:
                loads[each].append(replica)
    return dict(sorted({**loads, **ready}.items()))


def live_versions(table: Mapping[ModelVersion, object], service: str) -> dict[str, ModelVersion]:
    """By model of `service`, the version that callers get who name none."""
    versions: dict[str, list[str]] = defaultdict(list)
    for each in table:
        if each.service == service:
            versions[each.model].append(each.version)
    return {
        model: ModelVersion(service, model, max(known, key=version_order))
        for model, known in versions.items()
    }


def default_models(
    table: Mapping[ModelVersion, list[router_pb2.Replica]], service: str
) -> dict[str, ModelVersion]:
    """By method of `service`, what callers get who name no model: what most replicas call the default."""
    live = live_versions(table, service)
    votes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for each, replicas in table.items():
        if each != live.get(each.model) or each.service != service:
            continue
        for replica in replicas:
            for model in replica.models:
                if (model.name, model.version) == (each.model, each.version):
                    for method in model.default_methods:
                        votes[method][each.model] += 1
    return {
        method: live[min(counts, key=lambda model: (-counts[model], model))]
        for method, counts in votes.items()
    }

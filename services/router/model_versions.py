"""Which replicas serve which version of which model, as their leases say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
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


def live_versions(found: Iterable[ModelVersion], service: str) -> dict[str, ModelVersion]:
    """By model of `service`, the version that callers get who name none."""
    versions: dict[str, list[str]] = defaultdict(list)
    for each in found:
        if each.service == service:
            versions[each.model].append(each.version)
    return {
        model: ModelVersion(service, model, max(known, key=version_order))
        for model, known in versions.items()
    }


def named(table: Collection[ModelVersion]) -> dict[str, ModelVersion]:
    """The models by each of their names: `MODEL`, `MODEL@VERSION`, and both behind `SERVICE/`."""
    found: dict[str, ModelVersion] = {}
    for service in dict.fromkeys(each.service for each in table):
        own = {each.name: each for each in table if each.service == service}
        for name, each in (live_versions(table, service) | own).items():
            found.setdefault(name, each)
            found[f"{service}/{name}"] = each
    return found


def default_models(
    table: Mapping[ModelVersion, list[router_pb2.Replica]], service: str
) -> dict[str, ModelVersion]:
    """By method of `service`, what callers get who name no model: what most replicas call the default."""
    cast = {each: votes(each, replicas) for each, replicas in table.items() if each.service == service}
    return elected(cast, live_versions(table, service))


def votes(each: ModelVersion, replicas: Iterable[router_pb2.Replica]) -> Counter[str]:
    """By method, how many of `replicas` call the model version its default."""
    cast: Counter[str] = Counter()
    for replica in replicas:
        for model in replica.models:
            if (model.name, model.version) == (each.model, each.version):
                cast.update(model.default_methods)
    return cast


def elected(
    cast: Mapping[ModelVersion, Mapping[str, int]], live: Mapping[str, ModelVersion]
) -> dict[str, ModelVersion]:
    """By method, the live model version with the most votes; of equals the first by name."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for each, by_method in cast.items():
        if by_method and each == live.get(each.model):
            for method, count in by_method.items():
                counts[method][each.model] = count
    return {
        method: live[min(found, key=lambda model: (-found[model], model))] for method, found in counts.items()
    }

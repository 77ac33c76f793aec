"""Service level objectives (`slo` in `mesh.yaml`) and the alerts that follow from them.

Of the calls of an objective a share may be bad, its *budget*: 1 - percent / 100. The *burn rate* is how
many times faster than that calls are bad now. Alerts are multi-window and multi-burn-rate (Google, "The
Site Reliability Workbook", chapter 5, table 5-8):

    burn rate in the long window > factor  and  in the short window > factor

    factor  long  short  severity
    14.4    1 h   5 min  page      2% of a month's budget in an hour
    6       6 h   30 min page      5% in six hours
    1       3 d   6 h    ticket    10% in three days

Bad for availability is a call that failed by no fault of its caller; for latency one that took longer
than `latency_ms`, read off a bound of the histogram, so exact. Streams have no latency objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic.dataclasses import dataclass

from meshwork import contract

# The bounds of the histogram of calls, in seconds.
CALL_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

_LEAST_PERCENT = 94  # of a larger budget than 6%, 14.4 times is more than all calls
_WINDOWS = ("5m", "30m", "1h", "6h", "3d")
_BURNS = ((14.4, "1h", "5m", "page"), (6.0, "6h", "30m", "page"), (1.0, "3d", "6h", "ticket"))
_BAD = "UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED"
_RUNBOOK = "meshwork trace ls --slow --service {service}; meshwork top"


def _a_bound(latency_ms: float) -> float:
    bounds = [bound * 1000 for bound in CALL_BOUNDS_S]
    if latency_ms and latency_ms not in bounds:
        raise ValueError(f"should be one of {', '.join(f'{bound:g}' for bound in bounds)} (0: no objective)")
    return latency_ms


def _a_share(percent: float) -> float:
    if percent and not _LEAST_PERCENT <= percent < 100:
        raise ValueError(f"should be from {_LEAST_PERCENT} to less than 100 (0: no objective)")
    return percent


Percent = Annotated[float, Field(ge=0, lt=100), AfterValidator(_a_share)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid"))
class Objective:
    """What calls should be like."""

    latency_ms: Annotated[float, AfterValidator(_a_bound)] = 0  # that latency_percent stay within
    latency_percent: Percent = 99.0
    availability_percent: Percent = 0  # of calls that should not fail by our fault


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid"))
class Slo(Objective):
    """What the calls of a service should be like, and those of some of its models."""

    models: dict[ModelName, Objective] = field(default_factory=dict)


def rules(slos: Mapping[str, Slo]) -> str:
    """A Prometheus rule file: a group for each objective of `slos`, which are by service.

    Its recording rules are `meshwork:slo_errors:ratio_rateWINDOW{service, model, slo}`.
    """
    groups = [
        group
        for service, slo in slos.items()
        for model, objective in [("", slo), *slo.models.items()]
        for group in _groups(service, model, objective)
    ]
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)


def _groups(service: str, model: str, objective: Objective) -> Iterator[dict[str, Any]]:
    chosen = f'service="{service}"' + (f',model="{model}"' if model else "")
    if objective.availability_percent:
        calls = f"sum(rate(meshwork_calls_total{{{chosen}}}[%s]))"
        bad = f'(sum(rate(meshwork_calls_total{{{chosen},code=~"{_BAD}"}}[%s])) or vector(0))'
        goal = f"{objective.availability_percent:g}% of calls answered"
        yield _group(service, model, "availability", f"{bad} / {calls}", objective.availability_percent, goal)
    if objective.latency_ms and objective.latency_percent:
        chosen += f',method!~"{"|".join(_streams())}"'
        calls = f"sum(rate(meshwork_call_seconds_count{{{chosen}}}[%s]))"
        good = f'sum(rate(meshwork_call_seconds_bucket{{{chosen},le="{objective.latency_ms / 1000}"}}[%s]))'
        goal = f"{objective.latency_percent:g}% of calls within {objective.latency_ms:g} ms"
        yield _group(service, model, "latency", f"1 - {good} / {calls}", objective.latency_percent, goal)


def _group(service: str, model: str, slo: str, ratio: str, percent: float, goal: str) -> dict[str, Any]:
    labels = {"service": service, "model": model, "slo": slo}
    what = f"{service}/{model}" if model else service
    chosen = ",".join(f'{name}="{value}"' for name, value in labels.items())
    recorded = [
        {
            "record": f"meshwork:slo_errors:ratio_rate{window}",
            "expr": ratio.replace("%s", window),
            "labels": dict(labels),
        }
        for window in _WINDOWS
    ]
    bad_now = "{{ $value | humanizePercentage }}"  # Prometheus fills it in
    alerts = []
    for factor, long, short, severity in _BURNS:
        most = f"{factor * (1 - percent / 100):.6g}"
        rates = (f"meshwork:slo_errors:ratio_rate{window}{{{chosen}}} > {most}" for window in (long, short))
        alerts.append(
            {
                "alert": "MeshworkSloBurn",
                "expr": " and ".join(rates),
                "labels": {**labels, "severity": severity, "window": long},
                "annotations": {
                    "summary": f"{what}: {slo} burns its budget {factor:g} times too fast over {long}",
                    "description": f"The objective is {goal}; {bad_now} were bad over {long}.",
                    "runbook": _RUNBOOK.format(service=service),
                },
            }
        )
    return {"name": f"meshwork-slo-{what}-{slo}", "rules": recorded + alerts}


def _streams() -> list[str]:
    """The names of rpcs that stream."""
    methods = (method for name in contract.SERVICES for method in contract.descriptor(name).methods)
    found = {method.name for method in methods if method.client_streaming or method.server_streaming}
    return sorted(found | {"ModelStreamInfer"})

"""Makes the Grafana dashboards of `deploy/grafana/dashboards` from the panels that are listed here.

`python -m tools.dashboards` writes them; `--check` only says whether they are what this file makes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"

_BAD = "UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED"
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3  # of Grafana's grid of 24


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its unit is Grafana's name of one, its queries are pairs of PromQL and legend."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _panel(title: str, unit: str, *queries: str) -> Panel:
    """Queries as `PromQL  # legend`; `[@]` is the range of rates."""
    pairs = (query.replace("[@]", "[$__rate_interval]").split("  # ") for query in queries)
    return Panel(title, unit, tuple((expr, legend) for expr, legend in pairs))


def _quantile(share: float, metric: str, labels: str = "", by: str = "") -> str:
    chosen = f"{{{labels}}}" if labels else ""
    groups = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket{chosen}[@])))"


def _mean(metric: str, labels: str, by: str) -> str:
    sums = (f"sum by ({by}) (rate({metric}_{part}{{{labels}}}[@]))" for part in ("sum", "count"))
    return " / ".join(sums)


_S, _M = 'service="$service"', 'model="$model"'
_VERSIONS = 'model=~"$model@.*"'  # of metrics whose model is name@version
_PREFIX = 'envoy_http_conn_manager_prefix="gateway"'

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "mesh": (
        "",
        (
            _panel("Calls", "reqps", "sum by (service) (rate(meshwork_calls_total[@]))  # {{service}}"),
            _panel(
                "Failed by our fault",
                "percentunit",
                f'1 - sum by (service) (rate(meshwork_calls_total{{code!~"{_BAD}"}}[@])) / '
                "sum by (service) (rate(meshwork_calls_total[@]))  # {{service}}",
            ),
            _panel(
                "Latency p99",
                "s",
                f"{_quantile(0.99, 'meshwork_call_seconds', by='service')}  # {{{{service}}}}",
            ),
            _panel(
                "Replicas",
                "short",
                "max by (service, state) (meshwork_replicas)  # {{service}} {{state}}",
                "max(meshwork_ejected_replicas)  # ejected",
            ),
            _panel("Targets that answer", "short", "sum by (service) (up)  # {{service}}"),
            _panel("Lease age", "s", "max by (service) (meshwork_lease_age_seconds)  # {{service}}"),
            _panel(
                "Snapshot",
                "s",
                "meshwork_snapshot_age_seconds  # age on {{router}}",
                "meshwork_snapshot_generation  # generation on {{router}}",
            ),
            _panel(
                "xDS clients",
                "short",
                "sum by (kind) (meshwork_xds_clients)  # {{kind}}",
                "sum by (kind) (meshwork_xds_clients_behind)  # {{kind}} behind",
            ),
            _panel(
                "xDS replies",
                "ops",
                "sum(rate(meshwork_xds_acks_total[@]))  # acks",
                "sum(rate(meshwork_xds_nacks_total[@]))  # nacks",
            ),
            _panel(
                "Redis and leader",
                "short",
                "min(meshwork_redis_connected)  # Redis connected",
                "sum(meshwork_leader)  # leaders",
            ),
            _panel(
                "Events and anomalies",
                "short",
                "sum by (kind, level) (increase(meshwork_events_total[5m]))  # {{kind}} {{level}}",
                'sum(increase(meshwork_events_total{kind="anomaly"}[5m])) or vector(0)  # anomalies',
            ),
            _panel(
                "Processes",
                "short",
                "sum by (service) (rate(process_cpu_seconds_total[@]))  # {{service}} cores",
                "sum by (service) (process_resident_memory_bytes) / 1e9  # {{service}} GB",
            ),
            _panel("Spans dropped", "cps", "sum(rate(meshwork_spans_dropped_total[@]))  # spans"),
        ),
    ),
    "service": (
        "service",
        (
            _panel(
                "Calls by method",
                "reqps",
                f"sum by (method) (rate(meshwork_calls_total{{{_S}}}[@]))  # {{{{method}}}}",
            ),
            _panel(
                "Calls by code",
                "reqps",
                f"sum by (code) (rate(meshwork_calls_total{{{_S}}}[@]))  # {{{{code}}}}",
            ),
            _panel(
                "Calls by replica",
                "reqps",
                f"sum by (replica) (rate(meshwork_calls_total{{{_S}}}[@]))  # {{{{replica}}}}",
            ),
            *(
                _panel(
                    f"Latency p{share * 100:g}",
                    "s",
                    f"{_quantile(share, 'meshwork_call_seconds', _S, 'method')}  # {{{{method}}}}",
                )
                for share in (0.5, 0.99)
            ),
            _panel(
                "Latency p99 by replica",
                "s",
                f"{_quantile(0.99, 'meshwork_call_seconds', _S, 'replica')}  # {{{{replica}}}}",
            ),
            _panel(
                "In flight",
                "short",
                f"sum by (replica) (meshwork_calls_in_flight{{{_S}}})  # {{{{replica}}}}",
            ),
            _panel(
                "Queue time p99",
                "s",
                f"{_quantile(0.99, 'meshwork_queue_seconds', _S, 'replica')}  # {{{{replica}}}}",
            ),
            _panel(
                "Queued items",
                "short",
                f"sum by (replica) (meshwork_queued_items{{{_S}}})  # {{{{replica}}}}",
            ),
            _panel(
                "Busy share of devices",
                "percentunit",
                f"sum by (replica, device) (rate(meshwork_device_busy_seconds_total{{{_S}}}[@]))"
                "  # {{replica}} {{device}}",
            ),
            _panel(
                "Compute p99",
                "s",
                f"{_quantile(0.99, 'meshwork_compute_seconds', _S, 'model, device')}  # {{{{model}}}} {{{{device}}}}",
            ),
            _panel(
                "Items in a batch", "short", f"{_mean('meshwork_batch_items', _S, 'model')}  # {{{{model}}}}"
            ),
            _panel(
                "Refused at the door",
                "reqps",
                f"sum by (cause) (rate(meshwork_refused_total{{{_S}}}[@])) or vector(0)  # {{{{cause}}}}",
            ),
            _panel(
                "Event loop lag p99",
                "s",
                f"{_quantile(0.99, 'meshwork_event_loop_lag_seconds', _S, 'replica')}  # {{{{replica}}}}",
            ),
            _panel("State", "short", f"sum by (state) (meshwork_replica_state{{{_S}}})  # {{{{state}}}}"),
        ),
    ),
    "model": (
        "model",
        (
            _panel(
                "Calls",
                "reqps",
                f"sum by (version, method) (rate(meshwork_calls_total{{{_M}}}[@]))  # @{{{{version}}}} {{{{method}}}}",
            ),
            _panel(
                "Calls by code",
                "reqps",
                f"sum by (code) (rate(meshwork_calls_total{{{_M}}}[@]))  # {{{{code}}}}",
            ),
            _panel(
                "Latency",
                "s",
                *(
                    f"{_quantile(share, 'meshwork_call_seconds', _M, 'version')}  # @{{{{version}}}} p{share * 100:g}"
                    for share in (0.5, 0.95, 0.99)
                ),
            ),
            _panel(
                "Queue time p99",
                "s",
                f"{_quantile(0.99, 'meshwork_queue_seconds', _VERSIONS, 'model')}  # {{{{model}}}}",
            ),
            _panel(
                "Queued items",
                "short",
                f"sum by (version) (meshwork_queued_items{{{_M}}})  # @{{{{version}}}}",
            ),
            _panel(
                "Compute p99",
                "s",
                f"{_quantile(0.99, 'meshwork_compute_seconds', _VERSIONS, 'model, device')}  # {{{{model}}}} {{{{device}}}}",
            ),
            _panel(
                "Items in a batch",
                "short",
                f"{_mean('meshwork_batch_items', _VERSIONS, 'model')}  # {{{{model}}}}",
            ),
            _panel(
                "Cost of a batch",
                "short",
                f"{_mean('meshwork_batch_cost', _VERSIONS, 'model')}  # {{{{model}}}}",
            ),
            _panel(
                "Replicas",
                "short",
                f"max by (version) (meshwork_model_replicas{{{_M}}})  # @{{{{version}}}} takes calls",
                f"sum by (version) (meshwork_model_loaded{{{_M}}})  # @{{{{version}}}} in memory",
            ),
            _panel(
                "Device memory",
                "bytes",
                f"sum by (device) (meshwork_device_memory_bytes{{{_VERSIONS}}})  # {{{{device}}}}",
            ),
            _panel(
                "Loads and evictions",
                "short",
                f"sum by (outcome) (increase(meshwork_model_loads_total{{{_M}}}[1h]))  # {{{{outcome}}}}",
                f"sum by (cause) (increase(meshwork_model_unloads_total{{{_M}}}[1h])) or vector(0)  # unloaded {{{{cause}}}}",
            ),
        ),
    ),
    "gateway": (
        "",
        (
            _panel(
                "Requests",
                "reqps",
                f"sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx{{{_PREFIX}}}[@]))"
                "  # {{envoy_response_code_class}}xx",
            ),
            _panel(
                "Latency",
                "ms",
                *(
                    f"{_quantile(share, 'envoy_http_downstream_rq_time', _PREFIX)}  # p{share * 100:g}"
                    for share in (0.5, 0.99)
                ),
            ),
            _panel(
                "Open",
                "short",
                f"sum by (gateway) (envoy_http_downstream_rq_active{{{_PREFIX}}})  # requests {{{{gateway}}}}",
                f"sum by (gateway) (envoy_http_downstream_cx_active{{{_PREFIX}}})  # connections {{{{gateway}}}}",
            ),
            _panel(
                "To replicas",
                "reqps",
                "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_total[@]))  # {{envoy_cluster_name}}",
            ),
            _panel(
                "Replicas' latency p99",
                "ms",
                f"{_quantile(0.99, 'envoy_cluster_upstream_rq_time', by='envoy_cluster_name')}  # {{{{envoy_cluster_name}}}}",
            ),
            _panel(
                "Retries",
                "reqps",
                "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_retry[@]))  # {{envoy_cluster_name}}",
            ),
            _panel(
                "Replicas in health",
                "short",
                "min by (envoy_cluster_name) (envoy_cluster_membership_healthy)  # {{envoy_cluster_name}}",
                "max by (envoy_cluster_name) (envoy_cluster_outlier_detection_ejections_active)  # {{envoy_cluster_name}} ejected",
            ),
            _panel(
                "Not connected, or refused by circuit breakers",
                "reqps",
                "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_cx_connect_fail[@]))  # {{envoy_cluster_name}} connect",
                "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_pending_overflow[@]))  # {{envoy_cluster_name}} overflow",
            ),
            _panel("Memory", "bytes", "sum by (gateway) (envoy_server_memory_allocated)  # {{gateway}}"),
        ),
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    variable, panels = DASHBOARDS[name]
    source = {"type": "prometheus", "uid": "prometheus"}
    templates = [
        {
            "name": variable,
            "type": "query",
            "datasource": source,
            "query": f'label_values(meshwork_calls_total{{{variable}!=""}}, {variable})',
            "refresh": 2,
            "sort": 1,
        }
    ]
    return {
        "uid": f"meshwork-{name}",
        "title": f"Meshwork: {name}",
        "tags": ["meshwork"],
        "schemaVersion": 38,
        "refresh": "15s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["meshwork"], "title": "Meshwork", "keepTime": True}],
        "templating": {"list": templates if variable else []},
        "panels": [_drawn(index, panel, source) for index, panel in enumerate(panels)],
    }


def _drawn(index: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(index, _COLUMNS)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": source,
                "expr": expr,
                "legendFormat": legend,
                "exemplar": "meshwork_call_seconds_bucket" in expr,
            }
            for number, (expr, legend) in enumerate(panel.queries)
        ],
    }


def main() -> None:
    """Writes the dashboards, or checks them."""
    stale = []
    for name in DASHBOARDS:
        path, text = FOLDER / f"{name}.json", json.dumps(dashboard(name), indent=1) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; run python -m tools.dashboards")


if __name__ == "__main__":
    main()

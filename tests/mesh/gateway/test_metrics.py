"""A real Prometheus on a mesh under load: one job finds all, and every query of what we ship has data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import meshwork
from meshwork import slo
from meshwork.errors import MeshworkError
from meshwork.supervisor.ports import free_port
from tests.mesh.gateway.conftest import ROOT, Mesh, until
from tests.unit.serving.test_models import write_card

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
LOADED_S = 12.0  # Envoy brings its histograms up to date each 5 s
RANGE = "8s"
CALLS = (("one", ""), ("two", "echo"), ("break", "echo"), ("bad", ""), ("one", 'evil"} 1'))  # text, model
METRIC = re.compile(r"\b((?:meshwork|envoy|process)[a-z0-9_:]+|up)\b(?=[{\[) ])")

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs a Prometheus: apt-get install --no-install-recommends prometheus",
)


class Prometheus:
    """One that runs with the configuration that we ship, at another address and faster."""

    def __init__(self, folder: Path, router: str) -> None:
        folder.mkdir()
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["http_sd_configs"] = [
            {"url": f"http://{router}/sd", "refresh_interval": "1s"}
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(ALERTS, folder)
        objectives = slo.Slo(
            latency_ms=200, availability_percent=99.9, models={"echo": slo.Objective(latency_ms=0.5)}
        )
        (folder / "slo.yml").write_text(slo.rules({"nlp": objectives}))
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--enable-feature=exemplar-storage",
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def healthy(self) -> set[str]:
        """The services with a target that was scraped well."""
        try:
            targets = self.get("targets")["activeTargets"]
        except OSError:
            return set()
        return {each["labels"]["service"] for each in targets if each["health"] == "up"}


def call_until(stop: threading.Event, gateway: str) -> None:
    """Makes traced calls; whether they are answered is another matter."""
    traced = (("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"),)
    with meshwork.connect(gateway) as client:
        while not stop.is_set():
            for text, model in CALLS:
                try:
                    client.nlp.embed(text, model=model, metadata=traced)
                except MeshworkError:
                    continue
            time.sleep(0.01)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    http = f"127.0.0.1:{free_port()}"
    models = json.dumps([{"source": write_card(folder, "echo", "1", methods="[Embed]")}])
    mesh = Mesh(folder, MESHWORK_MODELS=models, MESHWORK_REPLICA="nlp-1", MESHWORK_ROUTER_HTTP_LISTEN=http)
    stop, calls, prometheus = threading.Event(), None, None
    try:
        mesh.start("nlp-1", "-m", "tests.unit.tiny_service")
        mesh.start_router()
        prometheus = Prometheus(folder / "prometheus", http)
        calls = threading.Thread(target=call_until, args=(stop, mesh.gateway))
        calls.start()
        until(lambda: prometheus.healthy() == {"nlp", "router", "gateway"}, "everything is found and scraped")
        answered = 'sum(rate(meshwork_calls_total{code="OK"}[2s])) > 0'
        until(lambda: bool(prometheus.query(answered)), "calls are seen")
        gateways = f"increase(envoy_http_downstream_rq_time_count[{RANGE}]) > 0"
        until(lambda: bool(prometheus.query(gateways)), "the gateway's times are seen", LOADED_S * 3)
        yield prometheus
    finally:
        stop.set()
        if calls:
            calls.join()
        if prometheus:
            prometheus.process.terminate()
            prometheus.process.wait()
        mesh.stop()


def queries() -> Iterator[tuple[str, str]]:
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def concrete(expr: str) -> str:
    expr = expr.replace("$__rate_interval", RANGE).replace("$service", "nlp")
    return expr.replace("$model", "echo")


def eventually(found: Callable[[], object], what: str) -> None:
    until(lambda: bool(found()), what, LOADED_S)


@pytest.mark.parametrize(
    ("where", "expr"),
    [pytest.param(where, expr, id=f"{where} {index}") for index, (where, expr) in enumerate(queries())],
)
def test_every_query_of_every_dashboard_has_data(watched: Prometheus, where: str, expr: str) -> None:
    def has_data() -> bool:
        return any(each["value"][1] != "NaN" for each in watched.query(concrete(expr)))

    eventually(has_data, f"{where} shows something: {concrete(expr)}")


def test_every_alert_looks_at_series_that_are_there(watched: Prometheus) -> None:
    expressions = []
    for group in watched.get("rules")["groups"]:
        for rule in group["rules"]:
            eventually(lambda rule=rule, group=group: evaluated(watched, group, rule), f"{rule} is evaluated")
            expressions.append(rule["query"])
    assert len(expressions) > 30
    for metric in sorted({name for expr in expressions for name in METRIC.findall(expr)}):
        eventually(lambda metric=metric: watched.query(metric), f"{metric} is there")


def evaluated(watched: Prometheus, group: dict[str, Any], rule: dict[str, Any]) -> bool:
    now = next(each for each in watched.get("rules")["groups"] if each["name"] == group["name"])
    same = [each for each in now["rules"] if each["query"] == rule["query"]]
    return all(each["health"] == "ok" and not each.get("lastError") for each in same)


def test_only_what_is_our_fault_burns_the_budget_and_then_the_alert_fires(watched: Prometheus) -> None:
    def share() -> float:
        found = watched.query('meshwork:slo_errors:ratio_rate5m{model="", slo="availability"}')
        return float(found[0]["value"][1]) if found else 0.0

    # One call in five breaks the model; that two are refused is their callers' fault.
    until(lambda: 0.1 < share() < 0.3, "a fifth of the calls is bad", LOADED_S)
    fires = 'ALERTS{alertname="MeshworkSloBurn", model="", slo="availability", alertstate="firing"}'
    until(lambda: len(watched.query(fires)) == len(("1h", "6h", "3d")), "each window's alert fires", LOADED_S)
    late = 'meshwork:slo_errors:ratio_rate5m{model="echo", slo="latency"}'
    assert 0 <= float(watched.query(late)[0]["value"][1]) <= 1


def test_calls_are_told_apart_and_no_callers_text_is_a_label(watched: Prometheus) -> None:
    series = [each["metric"] for each in watched.query("meshwork_calls_total")]
    told = {(each["model"], each["version"], each["code"]) for each in series}
    assert ("echo", "1", "OK") in told
    assert ("echo", "1", "INVALID_ARGUMENT") in told
    assert ("echo", "1", "INTERNAL") in told
    assert {model for model, _, _ in told} <= {"echo", ""}
    assert all(each["service"] == "nlp" and each["replica"] == "nlp-1" for each in series)
    assert not watched.get("series", **{"match[]": '{__name__=~".+", model=~".*evil.*"}'})


def test_a_bucket_leads_to_a_trace(watched: Prometheus) -> None:
    now = time.time()
    found = watched.get(
        "query_exemplars", query="meshwork_call_seconds_bucket", start=f"{now - 60}", end=f"{now + 1}"
    )
    labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert {"trace_id": "ab" * 16} in labels


def test_what_we_ship_passes_promtool(watched: Prometheus) -> None:
    for kind, path in (
        ("rules", ALERTS),
        ("rules", watched.folder / "slo.yml"),
        ("config", DEPLOY / "prometheus" / "prometheus.yml"),
    ):
        done = subprocess.run(["promtool", "check", kind, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

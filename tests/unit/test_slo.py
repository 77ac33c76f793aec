"""Objectives in mesh.yaml, and the rules that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from meshwork import config, slo
from meshwork.errors import ConfigError


def rules_of(text: str, tmp_path: Path) -> list[dict[str, str]]:
    file = tmp_path / "mesh.yaml"
    file.write_text(f"services: {{nlp: {{slo: {text}}}}}\n")
    made = slo.rules({name: service.slo for name, service in config.read(file).services.items()})
    return [rule for group in yaml.safe_load(made)["groups"] for rule in group["rules"]]


def test_an_objective_burns_at_the_workbooks_rates(tmp_path: Path) -> None:
    rules = rules_of("{availability_percent: 99.9}", tmp_path)
    alerts = [rule["expr"] for rule in rules if "alert" in rule]
    limits = [sorted({word for word in expr.split() if word.replace(".", "").isdigit()}) for expr in alerts]
    assert limits == [["0.0144"], ["0.006"], ["0.001"]]
    assert all(" and " in expr for expr in alerts)


def test_latency_is_read_off_a_bound_of_the_histogram_and_streams_are_left_out(tmp_path: Path) -> None:
    rules = rules_of("{latency_ms: 200, models: {minilm: {latency_ms: 1000}}}", tmp_path)
    exprs = [rule["expr"] for rule in rules if rule.get("record") == "meshwork:slo_errors:ratio_rate5m"]
    assert ['le="0.2"' in exprs[0], 'le="1.0"' in exprs[1]] == [True, True]
    assert 'model="minilm"' in exprs[1]
    assert all("Generate" in expr for expr in exprs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{latency_ms: 150}", "200"),
        ("{availability_percent: 90}", "94"),
        ("{latency_percent: 100}", "less than 100"),
        ("{models: {'a b': {}}}", "a b"),
        ("{latancy_ms: 200}", "no such setting"),
    ],
)
def test_what_can_be_no_objective_is_refused_with_what_can(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        rules_of(text, tmp_path)

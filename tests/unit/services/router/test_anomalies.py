"""What is odd beside peers and beside the past: the detector, window by window, with a clock handed in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from meshwork.state.reports import PERIOD_S, Figures
from services.router.anomalies import Anomalies, Finding
from services.router.day import SLOT_S, Day
from services.router.odd_replicas import odd_replicas
from services.router.usual import LEARN, Usual

REPLICAS = ("1", "2", "3")
MODEL = "digits@1"


class Traffic:
    """Three replicas of one model, whose windows a test bends."""

    def __init__(self) -> None:
        self.detector = Anomalies()
        self.random = np.random.default_rng(7)
        self.now = 1_800_000_000.0
        self.there = {name: [MODEL] for name in REPLICAS}

    def figures(
        self,
        *,
        rate: float = 20.0,
        ms: float = 10.0,
        failed: float = 0.0,
        sure: float = 0.9,
        labels: tuple[float, ...] = (0.5, 0.3, 0.2),
    ) -> Figures:
        calls = int(self.random.poisson(rate * PERIOD_S))
        errors = int(self.random.binomial(calls, failed))
        timed = calls - errors
        counts = self.random.multinomial(timed, labels)
        return Figures(
            calls=calls,
            errors=errors,
            timed=timed,
            ln_ms=timed * math.log(ms) + float(self.random.normal(0, 0.5)) * math.sqrt(timed),
            queue_s=0.001 * timed,
            judged=timed,
            confidence=sure * timed,
            labels=dict(enumerate(counts.tolist())),
        )

    def run(self, windows: int, bent: dict[str, dict[str, float]] | None = None) -> list[Finding]:
        begun: list[Finding] = []
        for _ in range(windows):
            self.now += PERIOD_S
            reports = {
                name: ("vision", PERIOD_S, {MODEL: self.figures(**(bent or {}).get(name, {}))})  # type: ignore[arg-type]
                for name in self.there
            }
            begun += self.detector.round(reports, self.there, self.now)[0]
        return begun


@pytest.fixture
def traffic() -> Traffic:
    ready = Traffic()
    assert ready.run(10 * LEARN) == []
    return ready


def everyone(**bent: float) -> dict[str, dict[str, float]]:
    return dict.fromkeys(REPLICAS, bent)


def what(found: list[Finding]) -> set[tuple[str, str]]:
    return {(each.replica, each.figure) for each in found}


def test_one_wild_window_is_no_finding(traffic: Traffic) -> None:
    assert traffic.run(1, {"1": {"ms": 1000.0, "failed": 0.9}}) == []
    assert traffic.run(20) == []


def test_a_replica_slower_than_its_peers_is_found_in_two_windows_and_its_model_is_not_blamed(
    traffic: Traffic,
) -> None:
    found = traffic.run(2, {"2": {"ms": 30.0}})
    assert what(found) == {("2", "latency")}
    assert found[0].seen == pytest.approx(30, rel=0.25)
    assert found[0].expected == pytest.approx(10, rel=0.1)
    assert traffic.now - found[0].since == PERIOD_S


def test_a_replica_that_fails_is_found_in_two_windows_even_before_anything_was_learned() -> None:
    assert what(Traffic().run(2, {"2": {"failed": 0.4}})) == {("2", "errors")}


def test_a_model_slower_on_all_replicas_is_found_beside_its_past(traffic: Traffic) -> None:
    assert what(traffic.run(3, everyone(ms=20.0))) == {("", "latency")}


def test_traffic_that_falls_or_surges_is_found(traffic: Traffic) -> None:
    assert ("", "traffic") in what(traffic.run(3, everyone(rate=5.0)))
    traffic.run(40)
    assert ("", "surge") in what(traffic.run(3, everyone(rate=100.0)))


def test_answers_of_other_labels_and_less_confidence_are_found(traffic: Traffic) -> None:
    bent = everyone(sure=0.7)
    for each in bent.values():
        each["labels"] = (0.1, 0.2, 0.7)  # type: ignore[assignment]
    assert {("", "confidence"), ("", "labels")} <= what(traffic.run(4, bent))


def test_a_finding_ends_once_the_replica_is_as_before(traffic: Traffic) -> None:
    traffic.run(5, {"2": {"ms": 30.0}})
    assert traffic.detector.found
    traffic.run(12)
    assert not traffic.detector.found


def test_a_finding_of_a_replica_that_is_gone_ends(traffic: Traffic) -> None:
    traffic.run(5, {"2": {"ms": 30.0}})
    del traffic.there["2"]
    traffic.run(1)
    assert not traffic.detector.found


def test_what_stays_odd_for_long_becomes_usual() -> None:
    usual = Usual(0.1)
    times = iter(range(10**6))
    for _ in range(LEARN):
        usual.judge(0.0, 10, next(times) * PERIOD_S, matters=True)
    for _ in range(600):
        usual.judge(5.0, 10, next(times) * PERIOD_S, matters=True)
    assert not usual.odd
    assert usual.mean == pytest.approx(5.0, abs=0.1)


def test_what_came_yesterday_at_this_time_is_expected() -> None:
    day = Day()
    begin = 20_000 * 86400.0
    for slot in range(288):
        day.saw(begin + slot * SLOT_S, 1.0 if slot == 100 else 50.0)
    least, most = day.between(begin + 86400 + 100 * SLOT_S, 50.0)
    assert least < 1.0
    assert most >= 50.0
    assert day.between(begin + 86400 + 200 * SLOT_S, 50.0)[0] == pytest.approx(45.0)


def test_only_a_replica_far_beyond_the_policy_is_kept_from_traffic() -> None:
    def finding(figure: str, seen: float, expected: float, replica: str = "1") -> Finding:
        return Finding("vision", MODEL, replica, figure, seen, expected, 9.0, 0.0)

    def bounds(service: str, model: str) -> tuple[float, float]:
        return 0.2, 8.0

    assert odd_replicas([finding("errors", 0.1, 0.0), finding("latency", 20, 10)], bounds) == ({}, {})
    assert odd_replicas([finding("errors", 0.9, 0.0, ""), finding("labels", 0.9, 0.1)], bounds) == ({}, {})
    assert list(odd_replicas([finding("errors", 0.5, 0.01)], bounds)[0]) == ["1"]
    assert list(odd_replicas([finding("latency", 100, 10)], bounds)[1]) == ["1"]
    assert odd_replicas([finding("errors", 0.5, 0.0)], lambda service, model: (0.0, 0.0)) == ({}, {})

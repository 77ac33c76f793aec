"""Drift is what is held at the end beyond what was held after the warm-up."""

from __future__ import annotations

from benchmarks.soak.watch import Held, by_role, drift, total


def held(rss_mb: float, tasks: int = 5) -> Held:
    return Held(rss_mb, 2, 3, tasks)


def test_growth_in_the_warm_up_is_no_drift() -> None:
    samples = [held(10), held(50), *[held(100)] * 6]
    assert drift(samples) == dict.fromkeys(("rss_mb", "threads", "fds", "tasks"), 0)


def test_growth_after_the_warm_up_is() -> None:
    found = drift([held(100)] * 4 + [held(110, tasks=6)] * 4)
    assert found["rss_mb"] == 10
    assert found["tasks"] == 20
    assert found["fds"] == 0


def test_one_odd_sample_is_no_drift() -> None:
    samples = [held(100)] * 12
    samples[-2] = held(500)
    assert drift(samples)["rss_mb"] == 0


def test_roles_add_up_and_one_that_came_late_has_no_drift_of_its_own() -> None:
    taken = {"nlp": held(1.5), "router": held(2)}
    assert total(taken) == Held(3.5, 4, 6, 10)
    assert dict(by_role([{"nlp": held(1)}, taken])) == {"nlp": [held(1), held(1.5)]}

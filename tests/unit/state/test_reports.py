"""What replicas report, written and read on a real Valkey."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from redis.asyncio import Redis

from meshwork.state.keys import Keys
from meshwork.state.reports import LABELS, LAPSE_S, Figures, Report, Reports, from_json, to_json

KEYS = Keys(mesh="test")


def filled() -> Report:
    figures = Figures()
    for ms in range(1, 101):
        figures.answered(ms / 1000, 0.001)
        figures.observed(0.8, f"label {ms}")
    figures.calls += 2
    figures.errors += 1
    return Report("1-1", 5.0, {"digits@1": figures})


async def test_what_was_put_is_read_and_lapses(redis: Redis) -> None:
    reports = Reports(redis, KEYS)
    await reports.put("vision-1", filled())
    read = (await reports.all())["vision-1"].models["digits@1"]
    assert (read.calls, read.errors, read.timed, read.judged) == (102, 1, 100, 100)
    assert read.quantile_ms(0.5) == pytest.approx(50, rel=0.13)
    assert read.quantile_ms(0.99) == pytest.approx(99, rel=0.13)
    assert len(read.labels) <= LABELS
    assert 0 < await redis.ttl(KEYS.reports) <= LAPSE_S
    await reports.remove(["vision-1"])
    assert await reports.all() == {}


async def test_garbage_beside_a_report_is_left_out(redis: Redis) -> None:
    reports = Reports(redis, KEYS)
    await reports.put("vision-1", filled())
    good = to_json(filled())
    bad = ["", "[]", "7", "{", good.replace("5.0", "NaN"), good.replace('"errors": 1', '"errors": 1000')]
    bad += [good.replace('"calls": 102', f'"calls": {value}') for value in ("-1", "1e400", '"x"', "null")]
    await redis.hset(KEYS.reports, mapping={str(number): text for number, text in enumerate(bad)})
    assert list(await reports.all()) == ["vision-1"]


@settings(max_examples=50)
@given(some.text() | some.sampled_from(["[1]", '{"models": 1}', "[" * 10_000, '{"models": {"a": []}}']))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        from_json(text)

from __future__ import annotations

import struct

import pytest

from meshwork.serving.load import LoadMeter, encode_report


def decode(report: bytes) -> dict[int, float]:
    pairs = struct.iter_unpack("<Bd", report)
    return {tag >> 3: value for tag, value in pairs}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_report_uses_the_field_numbers_of_orca() -> None:
    assert decode(encode_report(utilization=0.5, rps=10, eps=1)) == {5: 0.5, 6: 10, 7: 1, 9: 0.5}


def test_utilization_above_one_is_application_utilization_only() -> None:
    assert decode(encode_report(utilization=3, rps=1, eps=0)) == {5: 1.0, 6: 1, 9: 3}


def test_a_device_that_is_busy_half_of_the_time_is_half_utilized() -> None:
    clock = Clock()
    meter = LoadMeter(clock=clock)
    for _ in range(10):
        meter.device_begins("cpu")
        clock.now += 0.1
        meter.device_ends("cpu")
        clock.now += 0.1
        meter.answered(failed=False)
    report = decode(meter.report())
    assert report[5] == pytest.approx(0.5)
    assert report[6] == pytest.approx(5.0)
    assert 7 not in report


def test_a_batch_that_still_runs_counts_as_busy() -> None:
    clock = Clock()
    meter = LoadMeter(clock=clock)
    meter.device_begins("cpu")
    clock.now += 5
    assert decode(meter.report())[5] == pytest.approx(1.0)
    clock.now += 5
    assert decode(meter.report())[5] == pytest.approx(1.0)


def test_queued_work_raises_utilization() -> None:
    clock = Clock()
    meter = LoadMeter(clock=clock)
    meter.add_device(lambda: 2.0)
    clock.now += 1
    assert decode(meter.report())[9] == pytest.approx(2.0)

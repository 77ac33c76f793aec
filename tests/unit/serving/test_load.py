from __future__ import annotations

import random
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


class Model:
    def __init__(self, rate_s: float) -> None:
        self.rate_s = rate_s
        self.served_cost = 0.0


class Device:
    def __init__(self, *work: Model) -> None:
        self.work = work
        self.waiting_s = 0.0

    def wait_s(self) -> float:
        return self.waiting_s


class Replica:
    """A meter whose ramp is over, and its one device with one model of 10 ms an answer."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.meter = LoadMeter(clock=self.clock)
        self.model = Model(0.010)
        self.device = Device(self.model)
        self.meter.add_device(self.device)
        self.clock.now += 60

    def answer(self, count: int, every_s: float, *, failed: bool = False) -> None:
        for _ in range(count):
            self.clock.now += every_s
            self.model.served_cost += not failed
            self.meter.answered(failed=failed)
            self.meter.report()

    @property
    def report(self) -> dict[int, float]:
        self.clock.now += 0.02
        return decode(self.meter.report())

    @property
    def weight(self) -> float:
        report = self.report
        return report[6] / (report[9] + report.get(7, 0.0) / report[6])


def test_a_report_uses_the_field_numbers_of_orca_and_thousandths_of_rates() -> None:
    assert decode(encode_report(utilization=1.5, rps=10, eps=1)) == {6: 10_000, 7: 1000, 9: 1.5}


def test_a_device_that_works_half_of_the_time_is_half_utilized() -> None:
    replica = Replica()
    replica.answer(300, 0.020)
    assert replica.report[9] == pytest.approx(0.5, rel=0.1)
    assert replica.report[6] == pytest.approx(50_000, rel=0.1)
    assert 7 not in replica.report


def test_before_an_answer_was_measured_no_utilization_is_told() -> None:
    replica = Replica()
    replica.meter.answered(failed=True)
    assert 9 not in replica.report


@pytest.mark.parametrize("every_s", [0.012, 0.1, 5.0])
def test_the_weight_is_the_replicas_speed_however_little_it_has_to_do(every_s: float) -> None:
    replica = Replica()
    replica.answer(50, every_s)
    assert replica.weight == pytest.approx(100_000, rel=0.08)


def test_a_weight_holds_still_while_the_speed_only_trembles() -> None:
    replica, noise = Replica(), random.Random(1)
    replica.answer(100, 0.015)
    weights = set()
    for _ in range(500):
        replica.model.rate_s = 0.010 * noise.uniform(0.96, 1.04)
        replica.answer(1, noise.uniform(0.011, 0.030))
        weights.add(round(replica.weight, 3))
    assert len(weights) <= 2


def test_a_replica_that_slows_down_weighs_less_at_the_next_look() -> None:
    replica = Replica()
    replica.answer(100, 0.015)
    replica.model.rate_s = 0.050
    assert replica.weight == pytest.approx(20_000, rel=0.1)


def test_the_busiest_device_counts() -> None:
    replica = Replica()
    replica.meter.add_device(Device())
    replica.answer(300, 0.020)
    assert replica.report[9] == pytest.approx(0.5, rel=0.1)


def test_a_usual_queue_changes_nothing_and_a_long_one_spares_the_replica() -> None:
    replica = Replica()
    replica.answer(100, 0.015)
    whole = replica.weight
    replica.device.waiting_s = 0.05
    assert replica.weight == pytest.approx(whole)
    replica.device.waiting_s = 0.05 + 0.15
    assert replica.weight == pytest.approx(whole / 4)
    replica.device.waiting_s = 1000
    assert replica.weight == pytest.approx(whole / 50)


def test_a_new_replica_comes_in_slowly() -> None:
    replica = Replica()
    replica.meter.ready()
    weights = []
    for _ in range(7):
        replica.answer(50, 0.020)
        weights.append(replica.weight)
    assert weights == sorted(weights)
    assert weights[0] < 0.3 * weights[-1]
    assert weights[-1] == pytest.approx(weights[-2]) == pytest.approx(100_000, rel=0.08)


def test_errors_are_no_answers_and_lower_the_weight() -> None:
    replica = Replica()
    replica.answer(100, 0.020)
    whole = replica.weight
    for _ in range(100):
        replica.answer(1, 0.010)
        replica.answer(1, 0.010, failed=True)
    assert replica.report[7] == pytest.approx(replica.report[6] / 2, rel=0.1)
    assert replica.weight < whole


def test_what_was_removed_counts_no_more() -> None:
    replica = Replica()
    heavy = Model(1.0)
    replica.device.work = (replica.model, heavy)
    heavy.served_cost += 5
    replica.answer(100, 0.020)
    replica.device.work = (replica.model,)
    replica.answer(200, 0.020)
    assert replica.weight == pytest.approx(100_000, rel=0.2)

from __future__ import annotations

import pytest

from meshwork.serving.capacity import STEP, Speed
from meshwork.serving.held import Held


class Turns:
    """A process that is stopped for a part of each turn, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.held = Held(lambda: self.now)

    def run(self, seconds: int, stopped_s: float, turns: int = 10) -> float:
        for _ in range(seconds):
            for _ in range(turns):
                self.held.late(stopped_s)
            self.now += 1.0
            held_s = self.held.look()
        return held_s


def test_a_process_that_gets_a_tenth_of_its_time_holds_a_call_for_half_a_stop_on_average() -> None:
    assert Turns().run(3, stopped_s=0.09) == pytest.approx(0.09 * 0.9 / 2)


def test_a_pause_is_none_and_neither_is_the_jitter_of_a_busy_machine() -> None:
    turns = Turns()
    assert turns.run(1, stopped_s=0.8, turns=1) == 0.0
    assert turns.run(5, stopped_s=0.01, turns=50) == 0.0


def test_it_is_over_at_the_first_look_after_it_ended() -> None:
    turns = Turns()
    assert turns.run(3, stopped_s=0.09) > 0
    assert turns.run(1, stopped_s=0.0) == 0.0


def test_looking_often_does_not_shorten_what_is_looked_at() -> None:
    turns = Turns()
    turns.run(3, stopped_s=0.09)
    assert turns.held.look() == turns.held.look() > 0


def test_a_model_of_microseconds_on_such_a_process_shows_what_callers_wait() -> None:
    speed = Speed()
    speed.take([5e-6], 1.0, 0.0)
    assert speed.item_ms < 0.01
    speed.take([5e-6], 1.0, 0.04)
    assert speed.item_ms == pytest.approx(40.0, rel=STEP**0.5 - 1)
    speed.take([5e-6], 1.0, 0.0)
    assert speed.item_ms < 0.01

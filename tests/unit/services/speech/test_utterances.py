"""Recordings are cut at silences."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.speech.tasks.utterances import FRAME_S, LONGEST_S, cut, utterances


def frames(*stretches: tuple[int, bool]) -> list[bool]:
    return [voiced for seconds, voiced in stretches for _ in range(round(seconds / FRAME_S))]


def seconds(spans: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(round(start * FRAME_S, 1), round(end * FRAME_S, 1)) for start, end in spans]


def level(voiced: list[bool]) -> list[float]:
    return [float(each) for each in voiced]


def test_silence_holds_no_utterance():
    assert cut([], []) == []
    assert cut([False] * 100, [0.0] * 100) == []
    assert utterances(np.zeros(0, np.int16)) == []
    assert utterances(np.zeros(16_000, np.int16)) == []


def test_a_click_is_no_utterance():
    voiced = [False] * 50 + [True] + [False] * 50
    assert cut(voiced, level(voiced)) == []


def test_a_short_pause_does_not_part_an_utterance():
    voiced = frames((1, False), (2, True), (0.5, False), (2, True), (1, False))
    assert seconds(cut(voiced, level(voiced))) == [(0.8, 5.8)]


def test_a_long_pause_parts_two_utterances():
    voiced = frames((1, False), (2, True), (3, False), (2, True), (1, False))
    assert seconds(cut(voiced, level(voiced))) == [(0.8, 3.2), (5.8, 8.2)]


def test_speech_without_pause_is_cut_at_its_quietest_frame():
    voiced = frames((20, True))
    loud = [1.0] * len(voiced)
    loud[300] = 0.1
    assert cut(voiced, loud) == [(0, 300), (300, len(voiced))]


@given(st.lists(st.booleans(), max_size=2000))
def test_utterances_are_in_order_and_bounded_and_miss_no_voiced_stretch(voiced):
    spans = cut(voiced, level(voiced))
    assert all(0 <= start < end <= len(voiced) for start, end in spans)
    assert all(end - start <= round(LONGEST_S / FRAME_S) for start, end in spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    heard = {at for start, end in spans for at in range(start, end)}
    for at in range(1, len(voiced)):
        if voiced[at - 1] and voiced[at]:
            assert {at - 1, at} <= heard

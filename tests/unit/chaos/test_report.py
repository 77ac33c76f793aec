from __future__ import annotations

from collections.abc import Iterator

from meshwork.chaos.caller import Call
from meshwork.chaos.report import Report, Times, judge, percentile

TIMES = Times(began=0.0, broken=10.0, mended=20.0, ended=30.0)


def steady(replica: str = "a", *, begin: int = 0, end: int = 30) -> Iterator[Call]:
    """Ten calls a second of 10 ms each."""
    for tenth in range(begin * 10, end * 10):
        yield Call("nlp.Embed", "gateway", tenth / 10, 0.01, replica)


def judged(*calls: Call, victim: str = "", times: Times = TIMES) -> Report:
    return judge("kill", victim or "valkey", victim, times, calls, ["nlp.Generate"])


def test_calls_are_counted_in_the_phase_in_which_they_were_begun() -> None:
    report = judged(*steady())
    assert (report.before.calls, report.during.calls, report.after.calls) == (100, 100, 100)
    assert (report.calls, report.lost, report.recovered_s) == (300, 0, 0.0)
    assert report.out_of_rotation_s is None


def test_what_was_begun_before_the_load_was_warm_or_after_its_end_does_not_count() -> None:
    assert judged(*steady(), Call("nlp.Embed", "gateway", -1.0, 0.01, "", "INTERNAL", "cold")).lost == 0


def test_an_error_is_a_lost_call_and_its_text_is_kept() -> None:
    report = judged(*steady(), Call("nlp.Embed", "proxyless", 10.5, 0.2, "", "UNAVAILABLE", "Socket closed"))
    assert report.lost == report.during.lost == 1
    assert report.errors == {"proxyless nlp.Embed UNAVAILABLE Socket closed": 1}
    assert report.recovered_s == 0.7


def test_streams_are_counted_by_themselves() -> None:
    report = judged(*steady(), Call("nlp.Generate", "gateway", 11.0, 0.2, "", "BrokenStream", "ended"))
    assert (report.calls, report.lost) == (300, 0)
    assert (report.streams, report.streams_lost) == (1, 1)


def test_a_replica_is_used_until_the_last_call_that_it_answers_was_begun() -> None:
    report = judged(*steady("a"), *steady("b", end=13), victim="b")
    assert report.out_of_rotation_s == 2.9


def test_a_call_that_waits_shows_that_the_replica_is_still_used() -> None:
    report = judged(*steady(), Call("nlp.Embed", "gateway", 12.0, 2.0, "a"), victim="b")
    assert report.out_of_rotation_s == 2.0
    assert report.recovered_s == 4.0
    assert report.worst_ms == 2000.0


def test_a_gateway_that_still_lists_the_replica_still_uses_it() -> None:
    times = Times(began=0.0, broken=10.0, mended=20.0, ended=30.0, listed_until=10.4)
    assert judged(*steady(), victim="b", times=times).out_of_rotation_s == 0.4


def test_a_new_process_of_the_same_name_is_not_the_faulty_one() -> None:
    times = Times(began=0.0, broken=10.0, mended=20.0, ended=30.0, back=12.0)
    calls = [*steady("b", end=10), *steady("b", begin=13)]
    assert judged(*calls, victim="b", times=times).out_of_rotation_s == 0.0


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0

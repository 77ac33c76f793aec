from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshwork.serving.ledger import Ledger


def test_what_fits_evicts_nothing() -> None:
    assert Ledger(100, {"a": 40}).evictions(60, ["a"]) == []


def test_the_least_recently_used_goes_first() -> None:
    assert Ledger(100, {"a": 40, "b": 40}).evictions(30, ["b", "a"]) == ["b"]


def test_a_small_model_is_spared_where_a_larger_one_has_to_go_anyway() -> None:
    assert Ledger(100, {"small": 10, "large": 80}).evictions(70, ["small", "large"]) == ["large"]


def test_who_is_in_use_stays_and_then_there_may_be_no_room() -> None:
    assert Ledger(100, {"used": 60, "idle": 30}).evictions(50, ["idle"]) is None


@given(
    held=st.dictionaries(st.text(min_size=1), st.integers(1, 100), max_size=8),
    capacity=st.integers(0, 400),
    need=st.integers(0, 400),
)
def test_evictions_make_enough_room_and_none_of_them_is_needless(
    held: dict[str, int], capacity: int, need: int
) -> None:
    ledger = Ledger(capacity, held)
    chosen = ledger.evictions(need, sorted(held))
    if chosen is None:
        assert capacity < need
        return
    freed = sum(held[name] for name in chosen)
    assert ledger.free + freed >= need
    assert all(ledger.free + freed - held[name] < need for name in chosen)

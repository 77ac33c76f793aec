"""Contenders in turns: A, B, A, B, ... so that what else the machine does meets all of them alike.

Each turn is a fresh start. Rates on a shared machine still swing; the CPU that the server spends on a
request swings less, so both are reported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.peers.contender import Contender, Loads

Figures = dict[str, Any]
Turn = Callable[[], Figures]
_MEDIANS = ("rps", "p50_ms", "p99_ms", "server_cpu_us", "generator_cpu_us", "server_cores", "other_cores")


def compare(
    contenders: Sequence[Contender],
    in_flight: Sequence[int],
    *,
    rounds: int,
    windows: int = 2,
    window_s: float = 3.0,
    warm_s: float = 2.0,
    also: Mapping[str, Turn] | None = None,
) -> dict[str, Figures]:
    """Measures each contender once a round.

    Args:
        also: what else takes a turn in each round, by name: functions that give an `rps` and whatever more.

    Returns:
        By contender: `{"64": {"rps": ..., "rounds_rps": [...], ...}, "ready_s": ...}`, medians over the
        rounds; `{"failed": why}` for one that did not come through every round.
    """
    loads: dict[str, list[Loads]] = {each.name: [] for each in contenders}
    ready: dict[str, list[float]] = {each.name: [] for each in contenders}
    turns: dict[str, list[Figures]] = {name: [] for name in also or {}}
    failed: dict[str, Figures] = {}
    for round_ in range(1, rounds + 1):
        for contender in contenders:
            if contender.name in failed:
                continue
            _say(f"round {round_} of {rounds}: {contender.name}")
            try:
                result = contender.measure(in_flight, windows=windows, window_s=window_s, warm_s=warm_s)
            except Exception as error:
                failed[contender.name] = {"failed": str(error)}
                _say(f"{contender.name} failed: {error}")
                continue
            loads[contender.name].append(result.loads)
            ready[contender.name].append(result.ready_s)
        for name, turn in (also or {}).items():
            _say(f"round {round_} of {rounds}: {name}")
            turns[name].append(turn())
    found = {
        name: {
            "ready_s": median(ready[name]),
            **{str(count): _over_rounds([each[count] for each in given]) for count in in_flight},
        }
        for name, given in loads.items()
        if name not in failed
    }
    also_found = {
        name: {
            **given[-1],
            "rps": median(each["rps"] for each in given),
            "rounds_rps": [each["rps"] for each in given],
        }
        for name, given in turns.items()
    }
    return {**found, **failed, **also_found}


def _over_rounds(loads: Sequence[Figures]) -> Figures:
    return {
        **{name: round(median(each[name] for each in loads), 2) for name in _MEDIANS},
        "rounds_rps": [each["rps"] for each in loads],
        "errors": sum(each["errors"] for each in loads),
        "checked": sum(each["checked"] for each in loads),
        "max_error": max(each["max_error"] for each in loads),
    }


def best(figures: Mapping[str, Figures], names: Sequence[str], in_flight: int) -> Figures | None:
    """The figures of the fastest of the named contenders with so many in flight; None if there is none."""
    loads = [figures[name][str(in_flight)] for name in names if str(in_flight) in figures.get(name, {})]
    return max(loads, key=lambda load: load["rps"], default=None)


def beside(figures: Mapping[str, Figures], names: Sequence[str], mine: str, in_flight: int) -> Figures:
    """How many times the best peer's rate, and how many times less CPU a request than the thriftiest's."""
    own = figures[mine][str(in_flight)]
    loads = [figures[name][str(in_flight)] for name in names if str(in_flight) in figures.get(name, {})]
    if not loads:
        return {}
    return {
        "rate": round(own["rps"] / max(load["rps"] for load in loads), 2),
        "less_cpu": round(min(load["server_cpu_us"] for load in loads) / own["server_cpu_us"], 2),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

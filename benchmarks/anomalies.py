"""What the anomaly detector finds, how soon, and how often it cries wolf, on a simulated day.

MODELS models with REPLICAS replicas each report every 5 s for 24 hours; calls follow the time of day,
are Poisson on top of a wandering rate, and have lognormal latencies that wander too, rise with the load
and now and then have a wild window (a pause of the machine), which is no fault. Faults of five kinds
are injected at random times; the detector is the router's own code, `services.router.anomalies`, and sees
reports only. Beside it: fixed thresholds (latency over twice the model's median of the first hour, 5%
errors, half of the day's mean traffic, and 0.1 of confidence), two windows in a row.

A fault is found if something is said of its model, and its replica where it has one, from its begin to
60 s after its end. What is said at another time, beyond 10 minutes after a fault of that model, is a false
alarm. The delay is from the fault's begin to the round that said it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report import Targets, arguments, finish, machine
from meshwork.state.reports import PERIOD_S, Figures
from services.router.anomalies import Anomalies

MODELS, REPLICAS, LABELS = 20, 3, 6
DAY_S, WARM_UP_S = 86400, 3600
FAULTS = 40
CLEAR_S, AFTER_S = 600.0, 60.0
SPREAD = 0.5  # of the logarithm of a call's latency
KINDS = ("slow replica", "error burst", "traffic drop", "drifted inputs", "degraded version")
URGENT = ("slow replica", "error burst", "degraded version")
SERVICE = "simulated"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, in seconds of the day."""

    kind: str
    model: int
    replica: int | None
    begin: float
    end: float
    strength: float  # a factor of latency, a share of errors, of calls that are left, or of drifted inputs


def plan(random: np.random.Generator) -> list[Fault]:
    """FAULTS faults, those of a model at least half an hour apart."""
    faults: list[Fault] = []
    while len(faults) < FAULTS:
        kind = KINDS[len(faults) % len(KINDS)]
        begin = float(random.uniform(WARM_UP_S, WARM_UP_S + DAY_S - 1800))
        model = int(random.integers(MODELS))
        if any(each.model == model and abs(each.begin - begin) < 3600 for each in faults):
            continue
        lasts = float(random.uniform(300, 900))
        low, high = {
            "slow replica": (1.6, 4.0),
            "error burst": (0.08, 0.5),
            "traffic drop": (0.0, 0.4),
            "drifted inputs": (0.4, 0.9),
            "degraded version": (1.5, 3.0),
        }[kind]
        replica = int(random.integers(REPLICAS)) if kind in ("slow replica", "error burst") else None
        faults.append(Fault(kind, model, replica, begin, begin + lasts, float(random.uniform(low, high))))
    return faults


class Simulation:
    """The mesh's reports, window by window."""

    def __init__(self, random: np.random.Generator, faults: list[Fault]) -> None:
        self._random = random
        self._faults = faults
        shape = (MODELS, REPLICAS)
        self._rate = np.exp(random.uniform(np.log(4), np.log(60), MODELS))  # calls a second of a replica
        self._peak = random.uniform(0.3, 0.7, MODELS)
        self._noon = random.uniform(0, 86400, MODELS)
        self._ln_ms = random.uniform(np.log(3), np.log(300), (MODELS, 1)) + random.normal(0, 0.05, shape)
        self._fault_share = random.choice([0.0, 0.0005, 0.002], MODELS)
        self._sure = random.uniform(0.7, 0.95, MODELS)
        self._labels = random.dirichlet(np.full(LABELS, 2.0), MODELS)
        self._drifted = random.dirichlet(np.full(LABELS, 2.0), MODELS)
        self._wander = np.zeros(MODELS)
        self._own_wander = np.zeros(shape)
        self._traffic_wander = np.zeros(MODELS)

    def step(self, now: float) -> Iterator[tuple[int, int, Figures]]:
        """The figures of the window that ends at `now`."""
        random, shape = self._random, (MODELS, REPLICAS)
        self._wander += random.normal(0, 0.01, MODELS) - 0.02 * self._wander
        self._own_wander += random.normal(0, 0.01, shape) - 0.05 * self._own_wander
        self._traffic_wander += random.normal(0, 0.012, MODELS) - 0.01 * self._traffic_wander
        daily = 1 + self._peak * np.cos(2 * np.pi * (now - self._noon) / 86400)
        rate = (self._rate * daily * np.exp(self._traffic_wander))[:, None].repeat(REPLICAS, 1)
        ln_ms = self._ln_ms + self._wander[:, None] + self._own_wander + 0.1 * (daily[:, None] - 1)
        wild = random.random(shape) < 1 / 5000
        ln_ms = ln_ms + wild * random.uniform(0.5, 2.0, shape)
        share = self._fault_share[:, None].repeat(REPLICAS, 1)
        share = share + (random.random(shape) < 1 / 5000) * 0.1
        sure, labels = self._sure.copy(), self._labels.copy()
        for fault in self._faults:
            # A fault that begins within a window shows in its share of it.
            part = min(max((min(now, fault.end) - max(now - PERIOD_S, fault.begin)) / PERIOD_S, 0.0), 1.0)
            if not part:
                continue
            at = fault.model if fault.replica is None else (fault.model, fault.replica)
            if fault.kind in ("slow replica", "degraded version"):
                ln_ms[at] += part * np.log(fault.strength)
            elif fault.kind == "error burst":
                share[at] += part * fault.strength
            elif fault.kind == "traffic drop":
                rate[at] *= 1 - part * (1 - fault.strength)
            else:
                drift = part * fault.strength
                labels[at] += drift * (self._drifted[at] - labels[at])
                sure[at] -= drift * 0.2
        calls = random.poisson(rate * PERIOD_S)
        errors = random.binomial(calls, np.clip(share, 0, 1))
        timed = calls - errors
        sums = timed * ln_ms + random.normal(0, 1, shape) * SPREAD * np.sqrt(timed)
        queues = np.exp(ln_ms) * 0.05 / 1000 * timed * random.lognormal(0, 0.3, shape)
        means = sure[:, None] * timed + random.normal(0, 1, shape) * 0.12 * np.sqrt(timed)
        counts = random.multinomial(timed, labels[:, None, :])
        for model in range(MODELS):
            for replica in range(REPLICAS):
                at = (model, replica)
                yield (
                    model,
                    replica,
                    Figures(
                        calls=int(calls[at]),
                        errors=int(errors[at]),
                        timed=int(timed[at]),
                        ln_ms=float(sums[at]),
                        queue_s=float(queues[at]),
                        judged=int(timed[at]),
                        confidence=float(means[at]),
                        labels=dict(enumerate(counts[at].tolist())),
                    ),
                )


Said = tuple[float, int, int | None, str]  # when, of which model and replica, what


class Thresholds:
    """The same by fixed bounds, two windows in a row."""

    def __init__(self) -> None:
        self._first: dict[int, list[tuple[float, float]]] = {}
        self._over: dict[tuple[int, int | None, str], int] = {}
        self._usual: dict[int, tuple[float, float]] = {}
        self._rates: dict[int, list[int]] = {}

    def step(self, now: float, figures: list[tuple[int, int, Figures]]) -> list[Said]:
        """What it says of a window."""
        said: list[Said] = []
        pooled: dict[int, int] = {}
        for model, replica, each in figures:
            pooled[model] = pooled.get(model, 0) + each.calls
            if each.timed < 3:
                continue
            ln, sure = each.ln_ms / each.timed, each.confidence / each.judged
            if now <= WARM_UP_S:
                self._first.setdefault(model, []).append((ln, sure))
                continue
            if model not in self._usual:
                lns, sures = zip(*self._first[model], strict=True)
                self._usual[model] = statistics.median(lns), statistics.median(sures)
            usual_ln, usual_sure = self._usual[model]
            said += self._judge(now, model, replica, "latency", ln - usual_ln > np.log(2))
            said += self._judge(now, model, replica, "errors", each.errors > 0.05 * each.calls)
            said += self._judge(now, model, replica, "confidence", usual_sure - sure > 0.1)
        for model, calls in pooled.items():
            rates = self._rates.setdefault(model, [])
            if now <= WARM_UP_S:
                rates.append(calls)
            else:
                fallen = calls < 0.5 * statistics.fmean(rates[:720])
                said += self._judge(now, model, None, "traffic", fallen)
        return said

    def _judge(self, now: float, model: int, replica: int | None, what: str, over: bool) -> list[Said]:
        key = (model, replica, what)
        count = self._over[key] = self._over.get(key, 0) + 1 if over else 0
        return [(now, *key)] if count == 2 else []


def judged(faults: list[Fault], said: list[Said]) -> dict[str, Any]:
    """The figures of what was said."""
    delays: dict[Fault, float] = {}
    false: list[Said] = []
    for each in sorted(said, key=lambda each: each[0]):
        now, model, replica, _ = each
        of_model = [fault for fault in faults if fault.model == model]
        hit = [
            fault
            for fault in of_model
            if fault.begin <= now <= fault.end + AFTER_S and fault.replica in (None, replica)
        ]
        for fault in hit:
            delays.setdefault(fault, now - fault.begin)
        if not hit and not any(fault.begin <= now <= fault.end + CLEAR_S for fault in of_model):
            false.append(each)
    kinds = {kind: [fault for fault in faults if fault.kind == kind] for kind in KINDS}
    urgent = [delays[fault] for fault in faults if fault.kind in URGENT and fault in delays]
    return {
        "found_percent": round(100 * len(delays) / len(faults), 1),
        "found": {kind: f"{sum(each in delays for each in of)}/{len(of)}" for kind, of in kinds.items()},
        "delay_s": {
            kind: round(statistics.median(delays[each] for each in of if each in delays), 1)
            for kind, of in kinds.items()
            if any(each in delays for each in of)
        },
        "urgent_delay_s": round(statistics.median(urgent), 1) if urgent else float("inf"),
        "false_alarms": len(false),
        "false": [f"{what} of {model}/{replica} at {now:.0f}" for now, model, replica, what in false[:5]],
    }


def run(seed: int) -> tuple[dict[str, Any], dict[str, Any], float]:
    """A day: what the detector found, what thresholds did, and the detector's ms a round."""
    random = np.random.default_rng(seed)
    faults = plan(random)
    simulation, detector, thresholds = Simulation(random, faults), Anomalies(), Thresholds()
    said: list[Said] = []
    plain: list[Said] = []
    spent, rounds = 0.0, 0
    there = {f"{model}/{replica}": [f"{model}"] for model in range(MODELS) for replica in range(REPLICAS)}
    for step in range(1, int((WARM_UP_S + DAY_S) / PERIOD_S) + 1):
        now = step * PERIOD_S
        figures = list(simulation.step(now))
        windows = {
            f"{model}/{replica}": (SERVICE, PERIOD_S, {f"{model}": each}) for model, replica, each in figures
        }
        begun = time.process_time()
        new, _ = detector.round(windows, there, now)
        spent, rounds = spent + time.process_time() - begun, rounds + 1
        for finding in new:
            replica = int(finding.replica.partition("/")[2]) if finding.replica else None
            said.append((now, int(finding.model), replica, finding.figure))
        plain += thresholds.step(now, figures)
    said = [each for each in said if each[0] > WARM_UP_S]
    return judged(faults, said), judged(faults, plain), 1000 * spent / rounds


def main() -> None:
    """Simulates and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    before = machine()
    found, plain, round_ms = run(options.seed)
    figures = {
        "models": MODELS,
        "replicas": MODELS * REPLICAS,
        "faults": FAULTS,
        "seed": options.seed,
        "detector": found,
        "thresholds": plain,
        "round_ms": round(round_ms, 2),
    }
    targets: Targets = {
        "found_percent": (found["found_percent"], ">=", 95),
        "urgent_delay_s": (found["urgent_delay_s"], "<=", 15),
        "false_alarms_a_day": (found["false_alarms"], "<=", 1),
    }
    finish("anomalies", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()

"""What is odd in the mesh: each replica beside its peers, each model beside its own past; no input or output.

============  ===================================================  =======================================
figure        a replica beside its peers, the median of them       a model beside its past
============  ===================================================  =======================================
latency       log of the geometric mean                            the same, lower median of its replicas
queue         log of the mean time in the queue                    the same
errors        2 (sqrt(e + 3/8) - sqrt(expected + 3/8))             the same, without its worst replica
traffic       the same of calls, if they fall                      the same, if they fall or surge
confidence    the mean, if it falls                                the mean, if it moves either way
labels                                                             half the sum of |share - usual share|
============  ===================================================  =======================================

(Anscombe 1948: of a Poisson count, that root has a spread of 1 whatever its mean.) The lower median and
the worst one left out keep a lone odd replica from being taken for its model. `usual` says when a
deviation is odd. Traffic that falls or surges at this time of day, as the day before, is not.

A model with no peer to compare, one replica, is still watched beside its past.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshwork.state.reports import PERIOD_S, Figures
from services.router.day import Day
from services.router.usual import LEARN, Mean, Usual

FRESH_S = 2.5 * PERIOD_S  # a peer's window counts for so long
LEAST_CALLS = 3  # of a window, for its mean to say anything
LEAST_ANSWERS = 100  # that confidence and labels of a model are gathered over
LEAST_LN = math.log(1.3)  # of latency: less does not matter
LEAST_QUEUE_S, LEAST_QUEUE_LN = 0.02, math.log(2.0)
LEAST_ERRORS, LEAST_SHARE = 3, 0.02
FALLEN, SURGED = 0.6, 2.0  # of the calls that were expected
LEAST_SURGE = 50  # calls in a window
LEAST_CONFIDENCE = 0.05
LEAST_LABELS = 0.15

_SPREADS = {"latency": 0.05, "queue": 0.2, "errors": 1.0, "traffic": 1.0, "surge": 1.0, "confidence": 0.01}
_SPREADS |= {"confidence up": 0.01, "labels": 0.02}


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a replica or a model that is odd.

    Attributes:
        service, model: whose; the model as `name@version`.
        replica: "" if it is about the model.
        figure: latency, queue, errors, traffic, surge, confidence, confidence up or labels.
        seen, expected: the figure in its unit: ms, ms, share, calls a second, mean, distance.
        z: how many spreads they are apart.
        since: in the caller's seconds.
    """

    service: str
    model: str
    replica: str
    figure: str
    seen: float
    expected: float
    z: float
    since: float


@dataclass(slots=True)
class _Window:
    """A replica's last one of a model."""

    figures: Figures
    seconds: float
    at: float


@dataclass(slots=True)
class _Model:
    """What is remembered of a model version."""

    windows: dict[str, _Window] = field(default_factory=dict)  # by replica
    fresh: dict[str, _Window] = field(default_factory=dict)  # since the model was last judged
    judged: float = float("-inf")
    usual: dict[tuple[str, str], Usual] = field(default_factory=dict)  # by replica, "" for all; and figure
    rate: Mean = field(default_factory=lambda: Mean(1 / 60))
    fault_share: Mean = field(default_factory=Mean)
    day: Day = field(default_factory=Day)
    answers: int = 0
    confidence: float = 0.0
    labels: dict[int, int] = field(default_factory=dict)
    shares: dict[int, Mean] = field(default_factory=dict)  # of all answers, by label


Key = tuple[str, str, str, str]  # service, model, replica, figure


class Anomalies:
    """Finds them.

    Attributes:
        found: what is odd now.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Model] = {}
        self.found: dict[Key, Finding] = {}

    def bad(self, key: Key) -> float:
        """When the last window was that spoke for the finding of `key`."""
        service, model, replica, figure = key
        return self._models[service, model].usual[replica, figure].bad

    def round(
        self,
        windows: Mapping[str, tuple[str, float, Mapping[str, Figures]]],
        there: Mapping[str, Sequence[str]],
        now: float,
    ) -> tuple[list[Finding], list[Finding]]:
        """Takes in windows that ended since the last round.

        Args:
            windows: by replica: its service, the window's seconds, and its figures by model.
            there: the models, as `name@version`, that replicas serve and take traffic of, by replica.
            now: in seconds of a clock that tells the time of day.

        Returns:
            What is odd since, and what no longer is.
        """
        for replica, (service, seconds, models) in windows.items():
            for name in there.get(replica, ()):
                window = _Window(models.get(name) or Figures(), seconds, now)
                model = self._models.setdefault((service, name), _Model())
                model.windows[replica] = model.fresh[replica] = window
        begun: list[Finding] = []
        over: list[Finding] = []
        for (service, name), model in list(self._models.items()):
            self._forget(service, name, model, there, over)
            if not model.fresh or now < model.judged + 0.9 * PERIOD_S:
                continue
            peers = {at: each for at, each in model.windows.items() if now - each.at <= FRESH_S}
            new = {at: each for at, each in model.fresh.items() if at in peers}
            for replica, window in new.items():
                others = [each for peer, each in peers.items() if peer != replica]
                for seen in _beside_peers(model, replica, window, others, now):
                    self._note(service, name, replica, seen, model, begun, over)
            for seen in _beside_past(model, new, peers, now):
                self._note(service, name, "", seen, model, begun, over)
            model.fresh, model.judged = {}, now
        return begun, over

    def _forget(
        self, service: str, name: str, model: _Model, there: Mapping[str, Sequence[str]], over: list[Finding]
    ) -> None:
        for replica in [each for each in model.windows if name not in there.get(each, ())]:
            del model.windows[replica]
            model.fresh.pop(replica, None)
            for key in [key for key in model.usual if key[0] == replica]:
                del model.usual[key]
                found = self.found.pop((service, name, *key), None)
                if found is not None:
                    over.append(found)
        if not model.windows:
            gone = [each for each in self.found if each[:2] == (service, name)]
            over += [self.found.pop(each) for each in gone]
            del self._models[service, name]

    def _note(
        self,
        service: str,
        name: str,
        replica: str,
        seen: tuple[str, float, float],
        model: _Model,
        begun: list[Finding],
        over: list[Finding],
    ) -> None:
        figure, value, expected = seen
        usual, key = model.usual[replica, figure], (service, name, replica, figure)
        if usual.odd and usual.z > 0:
            finding = Finding(service, name, replica, figure, value, expected, usual.z, usual.since)
            if key not in self.found:
                begun.append(finding)
            self.found[key] = finding
        elif not usual.odd and key in self.found:
            over.append(self.found.pop(key))


Seen = tuple[str, float, float]  # the figure, what it is, what it should be


def _beside_peers(
    model: _Model, replica: str, window: _Window, others: list[_Window], now: float
) -> Iterator[Seen]:
    own = window.figures
    peers = [each.figures for each in others if each.figures.timed >= LEAST_CALLS]
    if others and peers:
        yield from _calls(model, replica, own, [*peers], others, window.seconds, now)
    else:
        for figure in ("latency", "queue", "errors", "traffic", "confidence"):
            _of(model, replica, figure).idle()
            yield figure, 0.0, 0.0


def _calls(
    model: _Model,
    replica: str,
    own: Figures,
    peers: list[Figures],
    others: list[_Window],
    seconds: float,
    now: float,
) -> Iterator[Seen]:
    many = statistics.median(each.timed for each in peers)
    latency, queue = _of(model, replica, "latency"), _of(model, replica, "queue")
    if own.timed >= LEAST_CALLS:
        n = 1 / (1 / own.timed + 1 / many)
        ln, usual_ln = own.ln_ms / own.timed, statistics.median(each.ln_ms / each.timed for each in peers)
        latency.judge(ln - usual_ln, n, now, matters=ln - usual_ln - latency.mean > LEAST_LN)
        yield "latency", math.exp(ln), math.exp(usual_ln + latency.mean)
        waits = own.queue_s / own.timed
        usual_s = statistics.median(each.queue_s / each.timed for each in peers)
        ratio = _queue(waits) - _queue(usual_s)
        matters = waits - usual_s > LEAST_QUEUE_S and ratio - queue.mean > LEAST_QUEUE_LN
        queue.judge(ratio, n, now, matters=matters)
        yield "queue", waits * 1000, usual_s * 1000
    else:
        for figure in (latency, queue):
            figure.idle()
        yield from (("latency", 0.0, 0.0), ("queue", 0.0, 0.0))
    errors = _of(model, replica, "errors")
    if own.calls:
        calls, failed = sum(each.calls for each in peers), sum(each.errors for each in peers)
        share = max(failed / calls, min(model.fault_share.get(), LEAST_SHARE)) if calls else 0.0
        _judge_errors(errors, own.errors, own.calls, share, now)
        yield "errors", own.errors / own.calls, share
    else:
        errors.idle()
        yield "errors", 0.0, 0.0
    traffic = _of(model, replica, "traffic")
    rate = statistics.median(each.figures.calls / each.seconds for each in others)
    fewer = own.calls < FALLEN / 2 * rate * seconds
    traffic.judge(_root(rate * seconds) - _root(own.calls), 1.0, now, matters=fewer)
    yield "traffic", own.calls / seconds, rate
    confidence = _of(model, replica, "confidence")
    sure = [each.confidence / each.judged for each in peers if each.judged >= LEAST_CALLS]
    if own.judged >= LEAST_CALLS and sure:
        usually, mean = statistics.median(sure), own.confidence / own.judged
        less = usually - mean
        n = 1 / (1 / own.judged + 1 / many)
        confidence.judge(less, n, now, matters=less - confidence.mean > LEAST_CONFIDENCE)
        yield "confidence", mean, usually - confidence.mean
    else:
        confidence.idle()
        yield "confidence", 0.0, 0.0


def _beside_past(
    model: _Model, windows: Mapping[str, _Window], all_windows: Mapping[str, _Window], now: float
) -> Iterator[Seen]:
    figures = [each.figures for each in windows.values()]
    timed = [each for each in figures if each.timed >= LEAST_CALLS]
    if timed:
        n = sum(each.timed for each in timed)
        latency, queue = _of(model, "", "latency"), _of(model, "", "queue")
        ln = statistics.median_low(each.ln_ms / each.timed for each in timed)
        latency.judge(ln, n, now, matters=ln - latency.mean > LEAST_LN)
        yield "latency", math.exp(ln), math.exp(latency.mean)
        waits = statistics.median_low(each.queue_s / each.timed for each in timed)
        usual_s = math.exp(queue.mean) - 0.001 if queue.learned else waits
        longer = waits - usual_s > LEAST_QUEUE_S and _queue(waits) - queue.mean > LEAST_QUEUE_LN
        queue.judge(_queue(waits), n, now, matters=longer)
        yield "queue", waits * 1000, usual_s * 1000
    if sum(each.calls for each in figures):
        yield from _errors_beside_past(model, figures, now)
    yield from _traffic_beside_past(model, all_windows, now)
    yield from _answers_beside_past(model, figures, now)


def _errors_beside_past(model: _Model, figures: list[Figures], now: float) -> Iterator[Seen]:
    ordered = sorted((each for each in figures if each.calls), key=lambda each: each.errors / each.calls)
    rest = ordered[:-1] or ordered
    calls, failed = sum(each.calls for each in rest), sum(each.errors for each in rest)
    usual, share = _of(model, "", "errors"), model.fault_share.get()
    _judge_errors(usual, failed, calls, share, now)
    if not usual.odd and usual.z <= 0:
        model.fault_share.update(failed / calls)
    yield "errors", failed / calls, share


def _traffic_beside_past(model: _Model, windows: Mapping[str, _Window], now: float) -> Iterator[Seen]:
    seconds = statistics.fmean(each.seconds for each in windows.values())
    rate = sum(each.figures.calls / each.seconds for each in windows.values())
    fall, surge = _of(model, "", "traffic"), _of(model, "", "surge")
    usually = model.rate.get()
    least, most = model.day.between(now, usually)
    calls = rate * seconds
    fall.judge(_root(least * seconds) - _root(calls), 1.0, now, matters=rate < FALLEN * least)
    surge.judge(
        _root(calls) - _root(most * seconds),
        1.0,
        now,
        matters=calls > max(SURGED * most * seconds, LEAST_SURGE),
    )
    if not (fall.odd or surge.odd):
        model.rate.update(rate)
    model.day.saw(now, rate)
    yield "traffic", rate, least
    yield "surge", rate, most


def _answers_beside_past(model: _Model, figures: list[Figures], now: float) -> Iterator[Seen]:
    for each in figures:
        model.answers += each.judged
        model.confidence += each.confidence
        for label, count in each.labels.items():
            model.labels[label] = model.labels.get(label, 0) + count
    if model.answers < LEAST_ANSWERS:
        return
    mean = model.confidence / model.answers
    for figure, sign in (("confidence", -1), ("confidence up", 1)):
        usual = _of(model, "", figure)
        off = sign * mean - usual.mean
        usual.judge(sign * mean, model.answers, now, matters=off > LEAST_CONFIDENCE)
        yield figure, mean, sign * usual.mean
    total = sum(model.labels.values())
    if total:
        labels = _of(model, "", "labels")
        names = model.labels.keys() | model.shares.keys()
        now_shares = {label: model.labels.get(label, 0) / total for label in names}
        usual_shares = {label: each.get() for label, each in model.shares.items()}
        distance = sum(abs(now_shares[label] - usual_shares.get(label, 0.0)) for label in names) / 2
        distance = distance if usual_shares else 0.0
        labels.judge(distance, total, now, matters=distance - labels.mean > LEAST_LABELS)
        if labels.z <= 0 or not labels.odd:
            for label, share in now_shares.items():
                model.shares.setdefault(label, Mean()).update(share)
        yield "labels", distance, labels.mean
    model.answers, model.confidence, model.labels = 0, 0.0, {}


def _judge_errors(usual: Usual, failed: int, calls: int, share: float, now: float) -> None:
    matters = failed >= LEAST_ERRORS and failed / calls - share > LEAST_SHARE
    usual.judge(_root(failed) - _root(share * calls), 1.0, now, matters=matters)


def _of(model: _Model, replica: str, figure: str) -> Usual:
    key = (replica, figure)
    if key not in model.usual:
        # How far counts of the same share may be apart is known; peers need no past.
        learn = 0 if replica and figure == "errors" else LEARN
        model.usual[key] = Usual(_SPREADS[figure], learn)
    return model.usual[key]


def _root(count: float) -> float:
    return 2 * math.sqrt(max(count, 0.0) + 0.375)


def _queue(wait_s: float) -> float:
    return math.log(max(wait_s, 0.0) + 0.001)

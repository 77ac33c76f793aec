"""Which replicas are many times slower than their peers; no input or output, the clock is handed in.

    slow  =  item_ms >= eject_slow x median(item_ms of its peers)  and  item_ms - median >= LEAST_MS

for CONFIRM_S. Its peers are the other READY replicas that have the same model version ready on the
same kind of device; of one peer alone it must be LEAST_ALONE_MS, since one figure is weak evidence.
`eject_slow` is that of the model's policy.

An ejected replica gets no calls, so its figure stands still. After PATIENCE_S it is tried again and
judged anew TRIAL_S later; each time it fails, its patience doubles, up to MOST_PATIENCE_S (the
back-off of Envoy's outlier detection). One that stays well for as long as it was out starts afresh.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshwork.router.v1 import router_pb2
from services.router.model_versions import ModelVersion

CONFIRM_S = 2.0
LEAST_MS = 2.0
LEAST_ALONE_MS = 20.0
PATIENCE_S = 10.0
MOST_PATIENCE_S = 300.0
TRIAL_S = 5.0


def slow_ones(
    replicas: Iterable[router_pb2.Replica], ratio_of: Callable[[ModelVersion], float]
) -> dict[str, str]:
    """The evidence against each replica that is slow now, by name.

    Args:
        ratio_of: by model version, how many times slower than its peers is too slow; 0 for never.
    """
    groups: dict[tuple[ModelVersion, str], dict[str, float]] = defaultdict(dict)
    for replica in replicas:
        for model in replica.models if replica.state == router_pb2.REPLICA_STATE_READY else ():
            if model.item_ms > 0 and model.state == router_pb2.MODEL_STATE_READY:
                each = ModelVersion(replica.service, model.name, model.version)
                groups[each, model.device.partition(":")[0]][replica.name] = model.item_ms
    found: dict[str, str] = {}
    for (each, _), figures in groups.items():
        ratio = ratio_of(each) if len(figures) > 1 else 0.0
        if not ratio or max(figures.values()) < ratio * min(figures.values()):
            continue
        for name, item_ms in figures.items():
            peers = [other for peer, other in figures.items() if peer != name]
            usual = statistics.median(peers)
            least = LEAST_MS if len(peers) > 1 else LEAST_ALONE_MS
            if item_ms >= ratio * usual and item_ms - usual >= least:
                need = "peers need" if len(peers) > 1 else "peer needs"
                found[name] = f"{item_ms:.3g} ms an item of {each.name} where its {need} {usual:.3g}"
    return found


@dataclass(slots=True)
class _Record:
    """What the judge remembers of one replica."""

    detail: str = ""
    suspected: float | None = None
    out_until: float | None = None
    tried: float = float("-inf")  # when it was last let back
    patience_s: float = PATIENCE_S


class SlowJudge:
    """Says who is out for being slow, from what is measured."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    @property
    def busy(self) -> bool:
        """Whether its verdict may change with nothing but time."""
        return bool(self._records)

    @property
    def slow(self) -> dict[str, str]:
        """The evidence against each replica that is out, by name."""
        return {name: each.detail for name, each in self._records.items() if each.out_until is not None}

    def patience_s(self, name: str) -> float:
        """How long `name` stays out, or stayed out last."""
        return self._records[name].patience_s if name in self._records else PATIENCE_S

    def adopt(self, name: str, detail: str, out_for_s: float, now: float) -> None:
        """Goes on from another judge, who took `name` out `out_for_s` ago."""
        self._records[name] = _Record(detail=detail, out_until=now + max(PATIENCE_S - out_for_s, 0.0))

    def judge(self, slow: dict[str, str], there: Iterable[str], now: float) -> None:
        """Takes in who is slow (see `slow_ones`) of the replicas that are `there`."""
        for name in self._records.keys() - set(there):
            del self._records[name]
        for name, detail in slow.items():
            record = self._records.setdefault(name, _Record())
            if record.out_until is not None or now < record.tried + TRIAL_S:
                continue
            record.detail = detail
            record.suspected = now if record.suspected is None else record.suspected
            # One that fails its trial was slow before; it needs no further confirmation.
            if now >= record.suspected + CONFIRM_S or record.tried > float("-inf"):
                if record.tried > float("-inf"):
                    record.patience_s = min(2 * record.patience_s, MOST_PATIENCE_S)
                record.out_until, record.suspected = now + record.patience_s, None
        for name, record in list(self._records.items()):
            if record.out_until is not None:
                if now >= record.out_until:
                    record.out_until, record.tried = None, now
            elif name not in slow and now >= record.tried + record.patience_s:
                del self._records[name]  # as good as new
            elif name not in slow:
                record.suspected = None

"""What happened, in words: from two states to the events between them; pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from meshwork.router.v1 import router_pb2
from meshwork.state.events import event
from meshwork.state.routers import RoutersView

_INFO, _WARNING, _ERROR = (
    router_pb2.EVENT_LEVEL_INFO,
    router_pb2.EVENT_LEVEL_WARNING,
    router_pb2.EVENT_LEVEL_ERROR,
)
_READY, _DRAINING = router_pb2.REPLICA_STATE_READY, router_pb2.REPLICA_STATE_DRAINING

_REASONS = {
    router_pb2.EJECTION_REASON_HUNG: "hung",
    router_pb2.EJECTION_REASON_SLOW: "slow",
    router_pb2.EJECTION_REASON_FAILING: "failing",
    router_pb2.EJECTION_REASON_UNREACHABLE: "unreachable",
}


def happened(
    kind: router_pb2.EventKind.ValueType,
    level: router_pb2.EventLevel.ValueType,
    message: str,
    *,
    service: str = "",
    subject: str = "",
) -> router_pb2.Event:
    """An event of now."""
    return event(kind, message, level=level, service=service, subject=subject)


def reason(ejection: router_pb2.Ejection) -> str:
    """The reason of an ejection in a word."""
    return _REASONS.get(ejection.reason, "ejected")


def of_replica(
    before: router_pb2.Replica | None, after: router_pb2.Replica | None, silent_s: float | None
) -> Iterator[router_pb2.Event]:
    """What happened to one replica.

    Args:
        before: its lease before; None if it had none.
        after: its lease now; None if it has none.
        silent_s: how long it was silent when its lease went, in seconds; None if it was not.
    """
    known = after or before
    assert known is not None
    about = {"service": known.service, "subject": known.name}
    if after is None:
        if silent_s is not None:
            text = f"down: its lease lapsed, silent for {silent_s:.0f} s"
            yield happened(router_pb2.EVENT_KIND_REPLICA_DOWN, _WARNING, text, **about)
        else:
            drained = " after it drained" if known.state == _DRAINING else ""
            text = f"down: it gave its lease up{drained}"
            yield happened(router_pb2.EVENT_KIND_REPLICA_DOWN, _INFO, text, **about)
        return
    state = before.state if before is not None else router_pb2.REPLICA_STATE_UNSPECIFIED
    if after.state == _READY and state != _READY:
        text = f"up at {after.address} with {len(after.models)} model{'' if len(after.models) == 1 else 's'}"
        yield happened(router_pb2.EVENT_KIND_REPLICA_UP, _INFO, text, **about)
    elif before is not None and after.state == _READY and _process(before) != _process(after):
        text = f"up at {after.address}: another process, {after.pid}, has its lease"
        yield happened(router_pb2.EVENT_KIND_REPLICA_UP, _WARNING, text, **about)
    if after.state == _DRAINING and state != _DRAINING:
        text = "draining: it finishes what it has and takes nothing new"
        yield happened(router_pb2.EVENT_KIND_REPLICA_DRAINING, _INFO, text, **about)
    if before is not None:
        yield from _of_models(before, after, about)


def _process(replica: router_pb2.Replica) -> tuple[str, int, int]:
    return replica.host, replica.pid, replica.start_time.ToNanoseconds()


def _of_models(
    before: router_pb2.Replica, after: router_pb2.Replica, about: Mapping[str, str]
) -> Iterator[router_pb2.Event]:
    """Model versions that came, changed their state or went; as it starts, only those that failed."""
    known = {(model.name, model.version): model for model in before.models}
    for model in after.models:
        was = known.pop((model.name, model.version), None)
        if was is not None and was.state == model.state:
            continue
        failed = model.state == router_pb2.MODEL_STATE_FAILED
        if not failed and before.state != _READY:
            continue
        state = router_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
        why = f": {model.error}" if failed and model.error else ""
        level = _ERROR if failed else _INFO
        text = f"{model.name}@{model.version} is {state}{why}"
        yield happened(router_pb2.EVENT_KIND_MODEL, level, text, **about)
    if after.state == _READY:
        for name, version in known:
            yield happened(router_pb2.EVENT_KIND_MODEL, _INFO, f"{name}@{version} was removed", **about)


def of_ejections(
    before: Mapping[str, router_pb2.Ejection],
    after: Mapping[str, router_pb2.Ejection],
    replicas: Mapping[str, router_pb2.Replica],
    overruled: Collection[str],
) -> Iterator[router_pb2.Event]:
    """Which replicas were taken out and let back; one that has gone was not let back."""
    for name in sorted(before.keys() | after.keys()):
        if name not in replicas:
            continue
        about = {"service": replicas[name].service, "subject": name}
        if name in after and (name not in before or before[name].reason != after[name].reason):
            text = f"ejected as {reason(after[name])}: {after[name].detail}"
            if name in overruled:
                text += "; overruled: too many of its peers are out, it takes traffic all the same"
            yield happened(router_pb2.EVENT_KIND_REPLICA_EJECTED, _WARNING, text, **about)
        elif name not in after:
            hung = before[name].reason == router_pb2.EJECTION_REASON_HUNG
            why = (
                "it renews its lease again"
                if hung
                else f"it was out for being {reason(before[name])}, on trial"
            )
            text = f"takes traffic again: {why}"
            yield happened(router_pb2.EVENT_KIND_REPLICA_RETURNED, _INFO, text, **about)


def of_routers(before: RoutersView, after: RoutersView) -> Iterator[router_pb2.Event]:
    """Which routers came and went."""
    for name in sorted(after.routers.keys() - before.routers.keys()):
        text = f"up at {after.routers[name].address}"
        yield happened(router_pb2.EVENT_KIND_ROUTER_UP, _INFO, text, subject=name)
    for name in sorted(before.routers.keys() & after.routers.keys()):
        old, new = before.routers[name], after.routers[name]
        if (old.host, old.pid, old.start_time) != (new.host, new.pid, new.start_time):
            text = f"up at {new.address}: another process, {new.pid}, took its place"
            yield happened(router_pb2.EVENT_KIND_ROUTER_UP, _WARNING, text, subject=name)
    for name in sorted(before.routers.keys() - after.routers.keys()):
        silent = name in after.lapsed
        text = "down: it went silent" if silent else "down: it was stopped"
        yield happened(router_pb2.EVENT_KIND_ROUTER_DOWN, _WARNING if silent else _INFO, text, subject=name)


def of_leader(before: str, after: str) -> router_pb2.Event:
    """Another router leads."""
    text = f"leads, after {before}" if before else "leads"
    return happened(router_pb2.EVENT_KIND_LEADER, _INFO, text, subject=after)

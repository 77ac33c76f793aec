"""The spans of a call's way through the runtime: preprocess, queue, forward, postprocess; and of batches.

::

    SERVER nlp.v1.NlpService/Embed
    ├── meshwork.preprocess   from the door to the queue
    ├── meshwork.queue        until the device took it
    ├── meshwork.forward      on the device        ── link ──>  meshwork.batch
    └── meshwork.postprocess

A batch serves calls of many traces and is one span, in the trace of its first traced call, with a link
to each traced call that was in it. Spans are made when their part is over, and only of calls that are
traced: others pay for one comparison.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.util.types import Attributes

from meshwork import spans, telemetry
from meshwork.serving.call import Call
from meshwork.serving.card import ModelCard

if TYPE_CHECKING:
    from meshwork.serving.device import Done
    from meshwork.serving.lane import Work


def batch(
    labels: tuple[str, str], works: Sequence[Work[Any]], cost: float, begun: float, took_s: float
) -> trace.SpanContext | None:
    """Makes the span of a batch, if a traced call was in it.

    Args:
        labels: the model, as `name@version`, and the device.
        begun: when it came onto the device, on the monotonic clock.
    """
    calls = {id(work.call.span): work.call.span for work in works}
    served = [span for each in calls.values() if (span := telemetry.recorded(each)) is not None]
    if not served:
        return None
    moments = spans.Moments()
    attributes: dict[str, str | int | float] = {
        "meshwork.model": labels[0],
        "meshwork.device": labels[1],
        "meshwork.batch_size": len(works),
        "meshwork.batch_cost": cost,
    }
    begun_ns, ended_ns = moments.ns(begun), moments.ns(begun + took_s)
    links = [span.get_span_context() for span in served]
    return served[0].part("meshwork.batch", begun_ns, ended_ns, attributes, links)


class Way:
    """Follows one call through the runtime."""

    def __init__(self, call: Call, card: ModelCard, replica: str) -> None:
        self._span = telemetry.recorded(call.span)
        if self._span is not None:
            self._moments = spans.Moments()
            self._last = time.monotonic()
            self._span.set_attributes(
                {"meshwork.model": card.name, "meshwork.version": card.version, "meshwork.replica": replica}
            )

    def preprocessed(self, items: int) -> None:
        """The inputs are prepared."""
        if self._span is not None:
            self._part("meshwork.preprocess", self._last, time.monotonic(), {"meshwork.items": items})

    def computed(self, device: str, done: Sequence[Done]) -> None:
        """The device has done its part."""
        if self._span is None or not done:
            return
        arrived = min(item.begun - item.queue_s for item in done)
        begun = min(item.begun for item in done)
        ended = max(item.begun + item.compute_s for item in done)
        batches = {item.batch.span_id: item.batch for item in done if item.batch is not None}
        facts: dict[str, str | int | float] = {
            "meshwork.device": device,
            "meshwork.queue_ms": round(max(item.queue_s for item in done) * 1000, 3),
            "meshwork.batch_size": max(item.batch_size for item in done),
            "meshwork.batch_cost": max(item.cost for item in done),
        }
        self._span.set_attributes(facts)
        for context in batches.values():
            self._span.add_link(context)
        self._part("meshwork.queue", arrived, begun)
        self._part("meshwork.forward", begun, ended, facts, tuple(batches.values()))

    def postprocessed(self) -> None:
        """The outputs are made."""
        if self._span is not None:
            self._part("meshwork.postprocess", self._last, time.monotonic())

    def _part(
        self,
        name: str,
        begun: float,
        ended: float,
        attributes: Attributes = None,
        links: Sequence[trace.SpanContext] = (),
    ) -> None:
        self._last = ended
        if self._span is not None:
            self._span.part(name, self._moments.ns(begun), self._moments.ns(ended), attributes, links)

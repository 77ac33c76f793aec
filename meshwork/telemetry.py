"""Traces of a process, made by the OpenTelemetry SDK and sent by OTLP.

The standard variables configure it (OpenTelemetry specification, "SDK environment variables"):
`OTEL_EXPORTER_OTLP_ENDPOINT` is where spans go, and without it none are made;
`OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` are the head sampling, by default every trace that
begins here and the parent's choice otherwise; `OTEL_BSP_*` is how spans are gathered and sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import meshwork

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from meshwork.recorder import Recorded, Recorder

LISTED = "ipv4:"  # how gRPC writes several addresses of one server
_IPV4 = re.compile(r"[\d.]+:\d+")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


recorder: Recorder | None = None  # what makes the spans of the calls that are served, where spans go anywhere


def recorded(span: Span) -> Recorded | None:
    """`span`, if it is one that is recorded here and not over."""
    if recorder is None:
        return None
    from meshwork.recorder import Recorded

    return span if isinstance(span, Recorded) and span.is_recording() else None


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where spans go."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environment.get(name) for name in ENDPOINTS)


def endpoint(addresses: Sequence[str]) -> str:
    """The OTLP endpoint that is the first of `addresses` (`host:port`) that answers.

    Names of hosts can't be listed together (gRPC's naming), so of those it is the first one.
    """
    numeric = [address for address in addresses if _IPV4.fullmatch(address)]
    return f"{LISTED}{','.join(numeric)}" if len(numeric) > 1 else f"http://{addresses[0]}"


def start(
    service: str,
    instance: str,
    facts: Mapping[str, str] | None = None,
    *,
    endpoint: str | None = None,
) -> None:
    """Makes and sends spans from now on, if the environment says where to.

    What the process does of its own accord (a lease renewed each second) begins no trace: commands
    to Redis are spans only within a call.

    Args:
        service: `service.name` of the spans, for example `nlp`.
        instance: `service.instance.id`, the name of the replica or router.
        facts: further attributes of the process, by name.
        endpoint: where spans go, instead of where the environment says; "" to make them, so that calls
            have a trace, and to send them nowhere.
    """
    if endpoint is None and not wanted():
        return
    # A process without traces pays for none of these.
    from opentelemetry import trace
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    from meshwork.otlp import SpanExporter
    from meshwork.recorder import Recorder

    resource = Resource.create(
        {
            "service.namespace": "meshwork",
            "service.name": service,
            "service.instance.id": instance,
            "service.version": meshwork.__version__,
            **(facts or {}),
        }
    )
    provider = TracerProvider(resource=resource)
    trace.set_tracer_provider(provider)
    if endpoint == "":
        return
    exporter = SpanExporter(endpoint=endpoint, insecure=_insecure(endpoint))
    processor = BatchSpanProcessor(exporter)
    global recorder
    recorder = Recorder(provider.resource, provider.sampler, processor.on_end)
    provider.add_span_processor(processor)
    within_calls = TracerProvider(sampler=ParentBased(root=ALWAYS_OFF), resource=resource)
    within_calls.add_span_processor(processor)
    RedisInstrumentor().instrument(tracer_provider=within_calls)


def stop() -> None:
    """Sends what is still to send, within the exporter's own timeout."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    # One of the API's own has nothing to send.
    if (shutdown := getattr(provider, "shutdown", None)) is not None:
        shutdown()


def _insecure(endpoint: str | None) -> bool | None:
    """An endpoint without a scheme is taken as `http://`; one with a scheme says it itself."""
    found = endpoint or next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    return None if "://" in found else True

"""`meshwork call --trace`: the call begins a trace of its own, and says how to see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from meshwork import config, spans, telemetry
from meshwork.cli.console import err
from meshwork.supervisor.home import Home


@contextmanager
def told(wanted: bool, address: str) -> Iterator[None]:
    """Makes what is called within a trace, if `wanted`, and prints its id on standard error.

    Args:
        address: the gateway that was named; "" for that of the mesh that runs here, which is sent this
            process's own spans too.
    """
    if not wanted:
        yield
        return
    record = None if address else Home.from_environment().running()
    settings = config.from_json(record.config).tracing if record else config.TracingConfig()
    endpoint = settings.otlp or (f"http://{record.router}" if record else "")
    telemetry.start("cli", "meshwork call", endpoint=None if telemetry.wanted() else endpoint)
    with spans.tracer.start_as_current_span("meshwork call"):
        trace_id = spans.trace_id()
        try:
            yield
        finally:
            err.print(f"trace [bold]{trace_id}[/]", highlight=False)
            if settings.jaeger:
                err.print(escape(f"{settings.jaeger.rstrip('/')}/trace/{trace_id}"), style="dim")
            elif not settings.otlp:
                err.print(f"in some seconds: meshwork trace show {trace_id}", style="dim")
    telemetry.stop()

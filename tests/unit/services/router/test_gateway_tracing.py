from __future__ import annotations

import pytest

from meshwork.errors import ConfigError
from meshwork.telemetry import endpoint
from services.router.gateway_tracing import collector, sampled_percent


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("http://10.0.0.9:4317", ("10.0.0.9:4317",)),
        ("collector:4317", ("collector:4317",)),
        (endpoint(["127.0.0.1:1", "127.0.0.1:2"]), ("127.0.0.1:1", "127.0.0.1:2")),
        (endpoint(["one:1", "two:2"]), ("one:1",)),
        (endpoint(["127.0.0.1:1"]), ("127.0.0.1:1",)),
    ],
)
def test_spans_go_where_the_environment_says(text: str, addresses: tuple[str, ...]) -> None:
    assert collector({"OTEL_EXPORTER_OTLP_ENDPOINT": text}) == addresses
    assert collector({"OTEL_EXPORTER_OTLP_ENDPOINT": text, "OTEL_SDK_DISABLED": "true"}) == ()


@pytest.mark.parametrize("text", ["https://10.0.0.9:4317", "http://", "no address"])
def test_where_a_gateway_cannot_send_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        collector({"OTEL_EXPORTER_OTLP_ENDPOINT": text})


def test_the_share_of_calls_that_begin_a_trace_is_that_of_the_standard_variables() -> None:
    assert sampled_percent({}) == 100.0
    assert sampled_percent({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}) == 0.0
    share = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    assert sampled_percent(share) == 25.0
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG"):
        sampled_percent({**share, "OTEL_TRACES_SAMPLER_ARG": "2"})

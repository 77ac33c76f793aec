"""The gateway's span of each call: it continues the caller's trace, or begins one.

Envoy writes `traceparent` anew with its own span as the parent, so the replica's span lies below, and
sends spans by OTLP each second to the static cluster `otlp` of its bootstrap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from meshwork.errors import ConfigError
from meshwork.telemetry import ENDPOINTS, LISTED
from meshwork.xds.bootstrap import OTLP_CLUSTER
from meshwork.xds.messages import Values, packed
from meshwork.xds.resources import split_address

_DETECTORS = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3"
_ALL = 100.0  # percent


def collector(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """`host:port` of the OTLP endpoint that the environment names, each of several; () if it names none.

    Raises:
        ConfigError: it names one that the gateway can't send to.
    """
    variable = next((name for name in ENDPOINTS if environment.get(name)), "")
    if not variable or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ()
    text = environment[variable]
    if text.startswith(LISTED):
        return tuple(text.removeprefix(LISTED).split(","))
    url = urlsplit(text if "://" in text else f"http://{text}")
    try:
        split_address(url.netloc)
    except ValueError:
        raise ConfigError(f"{variable}: should be http://HOST:PORT (OTLP over gRPC), not {text!r}") from None
    if url.scheme != "http":
        raise ConfigError(f"{variable}: the gateway sends by http:// only, not {url.scheme}://")
    return (url.netloc,)


def sampled_percent(environment: Mapping[str, str] = os.environ) -> float:
    """The share of calls without a `traceparent` for which the gateway begins a trace, in percent.

    Raises:
        ConfigError: OTEL_TRACES_SAMPLER_ARG is no share.
    """
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if sampler == "always_off":
        return 0.0
    if sampler != "traceidratio":
        return _ALL
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG: should be a share from 0 to 1, not {text!r}")
    return _ALL * share


def tracing(mesh: str, percent: float) -> Values:
    """The `tracing` of the gateway's HTTP connection manager.

    Args:
        mesh: name of the mesh.
        percent: of the calls without a `traceparent` that begin a trace.
    """
    resource = {"service.namespace": "meshwork", "meshwork.mesh": mesh}
    provider = {
        "grpc_service": {"envoy_grpc": {"cluster_name": OTLP_CLUSTER}, "timeout": "1s"},
        "service_name": "gateway",
        "resource_detectors": [
            {
                "name": "envoy.tracers.opentelemetry.resource_detectors.static_config",
                "typed_config": packed(
                    f"{_DETECTORS}.StaticConfigResourceDetectorConfig", {"attributes": resource}
                ),
            }
        ],
    }
    return {
        "random_sampling": {"value": percent},
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": packed("envoy.config.trace.v3.OpenTelemetryConfig", provider),
        },
    }

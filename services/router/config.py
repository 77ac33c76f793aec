"""What the router process is told by its environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from meshwork.channel import LARGEST_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from meshwork.errors import ConfigError
from meshwork.policy import Policy, from_json
from meshwork.state.connect import check_url
from meshwork.xds.resources import split_address
from services.router import contract, gateway_tracing
from services.router.policy import hash_fields

_NUMBERS = {"max_message_bytes", "gateway_threads", "trace_mb", "trace_slow_ms", "trace_ordinary_per_s"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """How to run a router; each field is the environment variable in its comment."""

    redis_url: str = "redis://127.0.0.1:6379"  # MESHWORK_REDIS_URL: where leases are
    mesh: str = "default"  # MESHWORK_MESH: meshes of different names share a Redis without meeting
    router_listen: str = "127.0.0.1:9000"  # MESHWORK_ROUTER_LISTEN: host:port of discovery and RouterService
    routers: tuple[str, ...] = ()  # MESHWORK_ROUTERS: host:port of every router, by comma; this one if empty
    router: str = ""  # MESHWORK_ROUTER: unique name of this router; "" makes one up
    # MESHWORK_ROUTER_HTTP_LISTEN: host:port of metrics and of Prometheus's service discovery; empty for a
    # free port beside router_listen, `off` for none
    router_http_listen: str = ""
    gateway_listen: str = ""  # MESHWORK_GATEWAY_LISTEN: host:port of this router's gateway; empty for none
    gateways: tuple[
        str, ...
    ] = ()  # MESHWORK_GATEWAYS: host:port of all gateways, by comma; this one if empty
    gateway_threads: int = 2  # MESHWORK_GATEWAY_THREADS: worker threads of the gateway
    zone: str = ""  # MESHWORK_ZONE: where the gateway runs, for example eu-west-1a; "" if nobody says
    cors_origins: str = ""  # MESHWORK_CORS_ORIGINS: regular expression of origins; empty for this machine's
    run_dir: str = "."  # MESHWORK_RUN_DIR: for the gateway's files
    policies: Mapping[str, Policy] = field(default_factory=dict)  # MESHWORK_POLICIES: JSON, by service
    max_message_bytes: int = MAX_MESSAGE_BYTES  # MESHWORK_MAX_MESSAGE_BYTES: largest request message
    otlp: tuple[str, ...] = ()  # OTEL_EXPORTER_OTLP_ENDPOINT, its host:port: where the gateway's spans go
    trace_mb: int = 64  # MESHWORK_TRACE_MB: megabytes of traces that are kept in Redis
    trace_slow_ms: int = 1000  # MESHWORK_TRACE_SLOW_MS: traces as long are all kept, as failed ones are
    trace_ordinary_per_s: int = 20  # MESHWORK_TRACE_ORDINARY_PER_S: others that are kept, on average
    sampled_percent: float = 100.0  # OTEL_TRACES_SAMPLER_ARG: of calls that bring no trace along

    def __post_init__(self) -> None:
        check_url(self.redis_url, "MESHWORK_REDIS_URL")
        addresses = {
            "MESHWORK_ROUTER_LISTEN": [self.router_listen],
            "MESHWORK_ROUTERS": list(self.routers),
            "MESHWORK_GATEWAYS": list(self.gateways),
        }
        if self.gateway_listen:
            addresses["MESHWORK_GATEWAY_LISTEN"] = [self.gateway_listen]
        if self.router_http_listen not in ("", "off"):
            addresses["MESHWORK_ROUTER_HTTP_LISTEN"] = [self.router_http_listen]
        for variable, values in addresses.items():
            for value in values:
                try:
                    split_address(value)
                except ValueError as error:
                    raise ConfigError(
                        f"{variable}: should be host:port, for example 127.0.0.1:8080: {error}"
                    ) from None
        if self.gateways and self.gateway_listen and self.gateway_listen not in self.gateways:
            raise ConfigError(
                f"MESHWORK_GATEWAYS: should name this router's own gateway, {self.gateway_listen}, too"
            )
        if not 1024 <= self.max_message_bytes <= LARGEST_MESSAGE_BYTES:
            raise ConfigError(
                f"MESHWORK_MAX_MESSAGE_BYTES: should be from 1024 to {LARGEST_MESSAGE_BYTES}, "
                f"not {self.max_message_bytes}"
            )
        if self.gateway_threads < 1:
            raise ConfigError(f"MESHWORK_GATEWAY_THREADS: should be at least 1, not {self.gateway_threads}")
        for service, by_field in hash_fields(self.policies).items():
            known = contract.services().get(service)
            for name in by_field:
                if known is None or not any(name in method.fields for method in known.methods.values()):
                    raise ConfigError(
                        f"MESHWORK_POLICIES: {service}.hash_by.field: no request of {service} has a "
                        f"field {name!r}"
                    )
        try:
            re.compile(self.cors_origins)
        except re.error as error:
            raise ConfigError(f"MESHWORK_CORS_ORIGINS: is not a regular expression: {error}") from None

    @property
    def discovery(self) -> tuple[str, ...]:
        """Where Envoy and gRPC clients reach the routers."""
        if self.routers:
            return self.routers
        host, port = split_address(self.router_listen)
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}",)

    @property
    def all_gateways(self) -> tuple[str, ...]:
        """`host:port` of every gateway of the mesh, each once: the same in every router that is told so."""
        return tuple(dict.fromkeys(self.gateways or filter(None, (self.gateway_listen,))))

    @property
    def http_listen(self) -> str:
        """Where the HTTP listener listens: `host:port`; port 0 is a free one."""
        return self.router_http_listen or f"{self.router_listen.rpartition(':')[0]}:0"

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.run_dir).resolve()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the settings.

        Raises:
            ConfigError: a variable can't be used.
        """
        given: dict[str, object] = {
            "otlp": gateway_tracing.collector(environment),
            "sampled_percent": gateway_tracing.sampled_percent(environment),
        }
        for name in cls.__dataclass_fields__:
            variable = f"MESHWORK_{name.upper()}"
            text = environment.get(variable)
            if text is None:
                continue
            if name in _NUMBERS:
                if not text.isdecimal():
                    raise ConfigError(f"{variable}: should be a whole number, not {text!r}")
                given[name] = int(text)
            elif name == "policies":
                given[name] = _policies(text)
            elif name == "gateway_listen" and text:
                given[name] = _numeric(variable, text)
            elif name in ("routers", "gateways"):
                parts = [part.strip() for part in text.split(",") if part.strip()]
                given[name] = tuple(
                    _numeric(variable, part) if name == "gateways" else part for part in parts
                )
            else:
                given[name] = text
        return cls(**given)  # type: ignore[arg-type]


def _numeric(variable: str, address: str) -> str:
    """`address` with its host's name, such as `localhost`, resolved: Envoy listens on numbers only."""
    try:
        host, port = split_address(address)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError:
        return address  # what is wrong with it is said where all addresses are checked
    except OSError as error:
        raise ConfigError(f"{variable}: {host} is no address of this machine: {error}") from None
    # IPv4 first, as clients try it.
    family, *_, numbers = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return f"[{numbers[0]}]:{port}" if family == socket.AF_INET6 else f"{numbers[0]}:{port}"


def _policies(text: str) -> dict[str, Policy]:
    try:
        return from_json(text)
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg'].removeprefix('Value error, ')}"
            for entry in error.errors()
        )
        raise ConfigError(f"MESHWORK_POLICIES: {'; '.join(problems)}") from None

"""`mesh.yaml`: the mesh, said declaratively. Checked when read; errors name the file and the line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from meshwork.channel import LARGEST_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from meshwork.errors import ConfigError
from meshwork.model_config import DeviceName, ModelConfig
from meshwork.policy import Policy, PolicyOrName, ZoneName
from meshwork.slo import Slo
from meshwork.state.connect import check_url, connect

DEFAULT_FILE = Path(__file__).with_name("mesh.yaml")

_STRICT = ConfigDict(extra="forbid")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_LARGEST_PORT = 65535
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
ServiceName = Literal["vision", "nlp", "speech", "translation", "recommendation", "pipeline"]


def _redis(url: str) -> str:
    try:
        if url:
            connect(url)
    except ConfigError as error:
        raise PydanticCustomError("redis", "{problem}", {"problem": str(error)}) from error
    return url


def _addresses(value: Any) -> str | tuple[str, ...]:
    """One address or several, each `host:port`, as they were given."""
    several = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not several or not all(isinstance(each, str) and _HOST_PORT.fullmatch(each) for each in several):
        raise ValueError("should be host:port, for example 127.0.0.1:8080, or a list of such")
    for each in several:
        if not 1 <= int(each.rpartition(":")[2]) <= _LARGEST_PORT:
            raise ValueError(f"the port should be from 1 to {_LARGEST_PORT}")
    if len(set(several)) < len(several):
        raise ValueError("should name each address once")
    return value if isinstance(value, str) else several


def _plain(value: str | tuple[str, ...]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


Addresses = Annotated[str | tuple[str, ...], PlainValidator(_addresses), PlainSerializer(_plain)]


def _address_or_none(address: str) -> str:
    if address:
        _addresses(address)
    return address


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class ServiceConfig:
    """A service and how it runs."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1  # processes to run
    device: Annotated[DeviceName, Field(min_length=1)] = "cpu"  # for models that name none
    memory_bytes: Annotated[int, Field(ge=0)] = 0  # that models may fill of each device; 0: most of it
    threads: Annotated[int, Field(ge=0, le=1024)] = 0  # CPU threads of a forward pass; 0: half the cores
    drain_s: Annotated[float, Field(ge=0, le=86_400)] = 15.0  # the longest that calls may take at the end
    zone: ZoneName = ""  # where its replicas run, for example eu-west-1a; "" if that is no matter
    policy: PolicyOrName = field(default_factory=Policy)  # how calls are spread over replicas and survive
    slo: Slo = field(default_factory=Slo)  # what its calls should be like: `meshwork config alerts`
    models: tuple[ModelConfig, ...] = ()  # empty for the service's starter models


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class GatewayConfig:
    """The mesh's addresses, each of a gateway of its own."""

    listen: Addresses = "127.0.0.1:8080"  # for clients
    zone: ZoneName = ""  # where the gateways run; "" if that is no matter
    max_message_bytes: Annotated[int, Field(ge=1024, le=LARGEST_MESSAGE_BYTES)] = MAX_MESSAGE_BYTES

    @property
    def addresses(self) -> tuple[str, ...]:
        """The `host:port` of each gateway."""
        return (self.listen,) if isinstance(self.listen, str) else self.listen


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class TracingConfig:
    """Which calls are traced, and where their spans go."""

    otlp: Annotated[str, StringConstraints(pattern=r"^(http://[^/\s]+:[0-9]{1,5})?$")] = ""  # "": the mesh
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of the calls that bring no trace along
    jaeger: Annotated[str, StringConstraints(pattern=r"^(https?://\S+)?$")] = ""  # its UI, for links
    keep_mb: Annotated[int, Field(ge=1, le=65536)] = 64  # of traces in Redis, where `otlp` is empty
    slow_ms: Annotated[int, Field(ge=1)] = 1000  # traces as long are all kept, as failed ones are
    ordinary_per_s: Annotated[int, Field(ge=0)] = 20  # of the others so many, on average


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class MetricsConfig:
    """Where Prometheus finds all there is to scrape."""

    listen: Annotated[str, AfterValidator(_address_or_none)] = ""  # of the first router; "": a free port


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class MeshConfig:
    """All of `mesh.yaml`."""

    name: Name = "default"  # meshes of different names may share one Redis
    redis: Annotated[str, AfterValidator(_redis)] = ""  # URL; "" runs a Valkey inside
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    routers: Annotated[int, Field(ge=1, le=100)] = 1  # processes to run; never fewer than gateways
    tracing: TracingConfig = field(default_factory=TracingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    services: dict[ServiceName, ServiceConfig] = field(default_factory=dict)

    @property
    def router_count(self) -> int:
        """Routers that run: each gateway has one of its own."""
        return max(self.routers, len(self.gateway.addresses))

    def with_port(self, port: int) -> MeshConfig:
        """The same mesh with its gateway on another port, and further gateways on those that follow."""
        hosts = [address.rpartition(":")[0] for address in self.gateway.addresses]
        listen = tuple(f"{host}:{port + index}" for index, host in enumerate(hosts))
        return replace(self, gateway=replace(self.gateway, listen=listen if len(listen) > 1 else listen[0]))

    def with_routers(self, count: int) -> MeshConfig:
        """The same mesh with another number of routers."""
        return replace(self, routers=count)

    def with_redis(self, url: str) -> MeshConfig:
        """The same mesh with its state in the Redis at `url`.

        Raises:
            ConfigError: `url` is not one.
        """
        check_url(url, "--redis")
        return replace(self, redis=url)

    def with_otlp(self, endpoint: str) -> MeshConfig:
        """The same mesh with its traces sent to the OTLP endpoint `endpoint`.

        Raises:
            ConfigError: it is not http://HOST:PORT.
        """
        try:
            return _ADAPTER.validate_python(replace(self, tracing=replace(self.tracing, otlp=endpoint)))
        except ValidationError:
            raise ConfigError(
                f"--otlp: should be http://HOST:PORT (OTLP over gRPC), not {endpoint!r}"
            ) from None

    def with_replicas(self, counts: Mapping[str, int]) -> MeshConfig:
        """The same mesh with other numbers of replicas.

        Raises:
            ConfigError: a service is not in the mesh.
        """
        services = dict(self.services)
        for name, count in counts.items():
            known = next((service for service in services if service == name), None)
            if known is None:
                raise ConfigError(f"no service {name!r} in this mesh; it has: {', '.join(services)}")
            services[known] = replace(services[known], replicas=count)
        return replace(self, services=services)


_ADAPTER = TypeAdapter(MeshConfig)


def read(path: Path = DEFAULT_FILE) -> MeshConfig:
    """Reads and checks a mesh file.

    Raises:
        ConfigError: the file can't be read or says something that a mesh can't be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "is not YAML"
        raise ConfigError(f"{path}{line}: {problem}") from error
    content = {} if content is None else content
    if isinstance(content, dict) and "services" not in content and path != DEFAULT_FILE:
        content["services"] = yaml.safe_load(DEFAULT_FILE.read_text(encoding="utf-8"))["services"]
    try:
        config = _ADAPTER.validate_python(content)
    except ValidationError as error:
        problems = [
            f"{path}:{_line(tree, entry['loc'])}: {_where(entry['loc'])}{_what(entry)}"
            for entry in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from error
    return replace(
        config,
        services={
            name: replace(service, models=tuple(_resolved(model, path) for model in service.models))
            for name, service in config.services.items()
        },
    )


def to_json(config: MeshConfig) -> str:
    """The whole configuration, defaults filled in, as JSON that `from_json` reads."""
    return _ADAPTER.dump_json(config, indent=2).decode()


def to_yaml(config: MeshConfig) -> str:
    """The whole configuration, defaults filled in, as a mesh file that `read` reads."""
    return yaml.safe_dump(_ADAPTER.dump_python(config, mode="json"), sort_keys=False)


def from_json(text: str) -> MeshConfig:
    """What `to_json` wrote."""
    return _ADAPTER.validate_json(text)


def _resolved(model: ModelConfig, file: Path) -> ModelConfig:
    """A relative path in a mesh file is relative to the file."""
    if "://" in model.source:
        return model
    return replace(model, source=str(file.resolve().parent / Path(model.source).expanduser()))


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """The line of the entry at `location`, or of the nearest one around it that exists."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                continue  # pydantic's own marks, such as "[key]"
            line = pair[0].start_mark.line + 1
            node = pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _where(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return f"{text}: " if text else ""


def _what(entry: Any) -> str:
    if entry["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return "no such setting; `meshwork config show` prints those there are"
    if entry["type"] == "redis":
        return str(entry["msg"])
    message = entry["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}, not {entry['input']!r}"

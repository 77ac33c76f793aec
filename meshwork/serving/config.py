"""What a replica process is told by its environment."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, get_args

from meshwork.channel import LARGEST_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from meshwork.channel import addresses as addresses_of
from meshwork.devices import parse_devices
from meshwork.errors import ConfigError, InvalidArgument
from meshwork.front import Front
from meshwork.model_config import ModelConfig, list_from_json
from meshwork.state.connect import check_url

REDIS_URL = "redis://127.0.0.1:6379"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaConfig:
    """How to run one replica; each field is the environment variable in its comment."""

    redis_url: str = REDIS_URL  # MESHWORK_REDIS_URL: where leases and state are; see meshwork.state.connect
    mesh: str = "default"  # MESHWORK_MESH: meshes of different names share a Redis without meeting
    replica: str = ""  # MESHWORK_REPLICA: unique name; "" makes one up
    listen: str = "127.0.0.1:0"  # MESHWORK_LISTEN: host:port to serve on; port 0 takes a free one
    http_listen: str = ""  # MESHWORK_HTTP_LISTEN: host:port of REST; "" for a free one beside it; or "off"
    advertise: str = ""  # MESHWORK_ADVERTISE: host at which others reach it; "" for the one it listens on
    routers: str = ""  # MESHWORK_ROUTERS: host:port of routers, by comma, of a service that calls others
    zone: str = ""  # MESHWORK_ZONE: where it runs, for example eu-west-1a; "" if nobody says
    device: str = "cpu"  # MESHWORK_DEVICE: for models that name none, for example cuda:0
    models: tuple[ModelConfig, ...] = field(default=())  # MESHWORK_MODELS: JSON list; empty for the starters
    threads: int = 0  # MESHWORK_THREADS: CPU threads of one forward pass; 0 for half of the cores
    max_message_bytes: int = MAX_MESSAGE_BYTES  # MESHWORK_MAX_MESSAGE_BYTES: largest request or answer
    memory_bytes: int = 0  # MESHWORK_MEMORY_BYTES: what models may fill of each device; 0 for most of it
    queue_items: int = 4096  # MESHWORK_QUEUE_ITEMS: most items that may wait for a device
    queue_bytes: int = 1 << 30  # MESHWORK_QUEUE_BYTES: most bytes that may wait for a device
    front: Front = "core"  # MESHWORK_FRONT: what takes calls: core, or aio for grpc.aio's own server
    lease_ttl_s: float = 6.0  # MESHWORK_LEASE_TTL_S: how long a silent replica keeps its lease
    drain_s: float = 15.0  # MESHWORK_DRAIN_S: the longest that work in flight may take at the end

    def __post_init__(self) -> None:
        check_url(self.redis_url, "MESHWORK_REDIS_URL")
        addresses = {"MESHWORK_LISTEN": self.listen}
        if self.http_listen not in ("", "off"):
            addresses["MESHWORK_HTTP_LISTEN"] = self.http_listen
        for variable, address in addresses.items():
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or int(port) > 65535:
                raise ConfigError(f"{variable}: should be host:port, not {address!r}")
        for name, least in (("threads", 0), ("memory_bytes", 0), ("queue_items", 1), ("queue_bytes", 1)):
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise ConfigError(f"MESHWORK_{name.upper()}: should be {least} or more, not {value}")
        try:
            parse_devices(self.device)
        except ValueError as error:
            raise ConfigError(f"MESHWORK_DEVICE: {error}") from error
        if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", self.zone):
            raise ConfigError(f"MESHWORK_ZONE: should be a name such as eu-west-1a, not {self.zone!r}")
        try:
            addresses_of(self.routers or self.listen)
        except InvalidArgument as error:
            raise ConfigError(f"MESHWORK_ROUTERS: {error.remedy}") from error
        if self.front not in get_args(Front):
            raise ConfigError(f"MESHWORK_FRONT: should be core or aio, not {self.front!r}")
        if not 0.5 <= self.lease_ttl_s <= 3600:  # NaN fails too
            raise ConfigError(f"MESHWORK_LEASE_TTL_S: should be from 0.5 to 3600, not {self.lease_ttl_s:g}")
        if not 0 <= self.drain_s <= 86_400:
            raise ConfigError(f"MESHWORK_DRAIN_S: should be from 0 to 86400, not {self.drain_s:g}")
        if not 1024 <= self.max_message_bytes <= LARGEST_MESSAGE_BYTES:
            raise ConfigError(
                f"MESHWORK_MAX_MESSAGE_BYTES: should be from 1024 to {LARGEST_MESSAGE_BYTES}, "
                f"not {self.max_message_bytes}"
            )

    @property
    def cpu_threads(self) -> int:
        """Threads of one forward pass on the CPU."""
        return self.threads or max(1, (os.cpu_count() or 1) // 2)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], service: str) -> Self:
        """Reads the settings for a replica of `service`.

        Raises:
            ConfigError: a variable can't be used.
        """
        given: dict[str, object] = {}
        for name in cls.__dataclass_fields__:
            variable = f"MESHWORK_{name.upper()}"
            text = environment.get(variable)
            if text is None:
                continue
            try:
                given[name] = _parsed(name, text)
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{variable}: cannot use {text!r}: {error}") from error
        given.setdefault("replica", f"{service}-{secrets.token_hex(3)}")
        return cls(**given)  # type: ignore[arg-type]


def _parsed(name: str, text: str) -> object:
    if name == "models":
        return list_from_json(text)
    if name in ("threads", "max_message_bytes", "memory_bytes", "queue_items", "queue_bytes"):
        return int(text)
    if name in ("lease_ttl_s", "drain_s"):
        return float(text)
    return text


def host_name() -> str:
    """The name of this host for people."""
    return socket.gethostname()

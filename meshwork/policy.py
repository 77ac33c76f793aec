"""How the calls of a service, or of one of its models, are balanced and how they survive: `policy` of
a service in `mesh.yaml`.

::

    policy: least_request            the same as  policy: {balance: least_request}

What is said for a model (`models`, by `NAME` or `NAME@VERSION`) stands over what is said for its
service; what is not said for it is as the service has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")

Balance = Literal["weighted_round_robin", "least_request", "round_robin", "ring_hash"]
Locality = Literal["any", "prefer"]
Retries = Annotated[int, Field(ge=0, le=10)]
HedgeMs = Annotated[float, Field(ge=0, le=3_600_000)]
Percent = Annotated[float, Field(ge=0, le=100)]
SlowStartS = Annotated[float, Field(ge=0, le=3600)]
Times = Annotated[float, Field(ge=0, le=1_000_000)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ZoneName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]

_HASH_FIELD = "meshwork-hash-"


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class HashBy:
    """What says whose call it is: a header of the request, or a field of its message."""

    header: HeaderName | None = None  # lower-case name of a request header (gRPC metadata)
    field: FieldName | None = None  # name of a field at the top of the request message

    @model_validator(mode="after")
    def _one(self) -> HashBy:
        if (self.header is None) == (self.field is None):
            raise ValueError("should name one: header, or field")
        return self

    @property
    def carrier(self) -> str:
        """The header that carries it: the gateway writes that of a field, an `xds:///` client itself."""
        return self.header or f"{_HASH_FIELD}{(self.field or '').replace('_', '-')}"


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class ModelPolicy:
    """What a model has otherwise than its service; None is as the service has it."""

    balance: Balance | None = None
    hash_by: HashBy | None = None
    locality: Locality | None = None
    retries: Retries | None = None
    hedge_after_ms: HedgeMs | None = None
    panic_percent: Percent | None = None
    slow_start_s: SlowStartS | None = None
    eject_slow: Times | None = None
    eject_failing: Percent | None = None


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class Policy:
    """The policy of a service."""

    balance: Balance = "weighted_round_robin"  # by the load that replicas report, or another
    hash_by: HashBy | None = None  # of ring_hash: calls with the same value go to the same replica
    locality: Locality = "any"  # prefer: the caller's zone, while it has capacity
    retries: Retries = 2  # the most times that a call that may be repeated is, on other replicas
    hedge_after_ms: HedgeMs = 0  # ask a second replica after so long, of read-only calls; 0 for never
    panic_percent: Percent = 10  # with fewer replicas in health, calls go to all of them
    slow_start_s: SlowStartS = 5  # a new replica's share grows over so long (not weighted)
    eject_slow: Times = 8  # times as slow as its peers puts a replica out; 0 for never
    eject_failing: Percent = 20  # of its calls that fail, and not its peers', puts it out; 0 for never
    models: dict[str, ModelPolicy] = field(default_factory=dict)  # by NAME or NAME@VERSION

    @model_validator(mode="after")
    def _is_whole(self) -> Policy:
        for name in ("", *self.models):
            where, policy = (f"models.{name}: ", self.of(name, "")) if name else ("", self)
            if policy.balance == "ring_hash" and policy.hash_by is None:
                raise ValueError(
                    f"{where}ring_hash needs hash_by, for example hash_by: {{header: x-user}} "
                    "or hash_by: {field: user_id}"
                )
            if policy.hedge_after_ms and not policy.retries:
                raise ValueError(f"{where}hedge_after_ms needs retries: the second try is one")
        return self

    def of(self, model: str, version: str) -> Policy:
        """The policy of a version of a model, which has no `models` of its own."""
        said: dict[str, Any] = {}
        for name in (model, f"{model}@{version}"):
            own = self.models.get(name)
            if own is not None:
                values = {each.name: getattr(own, each.name) for each in fields(own)}
                said |= {name: value for name, value in values.items() if value is not None}
        return replace(self, models={}, **said)


def _named(value: Any) -> Any:
    return {"balance": value} if isinstance(value, str) else value


# `policy: round_robin` is short for `policy: {balance: round_robin}`.
PolicyOrName = Annotated[Policy, BeforeValidator(_named)]

_BY_SERVICE = TypeAdapter(dict[str, PolicyOrName])


def to_json(policies: Mapping[str, Policy]) -> str:
    """Policies by service, as `from_json` reads them."""
    return _BY_SERVICE.dump_json(dict(policies), exclude_defaults=True).decode()


def from_json(text: str | bytes) -> dict[str, Policy]:
    """What `to_json` wrote.

    Raises:
        ValidationError: it is no policies by service.
    """
    return _BY_SERVICE.validate_json(text)

"""What can go wrong, as one tree: raised by services, sent as rich gRPC statuses, raised again by the SDK.

::

    MeshworkError
    ├── InvalidArgument        INVALID_ARGUMENT     INVALID_FIELD        a field is wrong; BadRequest names it
    ├── NotFound               NOT_FOUND            RESOURCE_NOT_FOUND   ResourceInfo names it
    │   └── ModelNotFound      NOT_FOUND            MODEL_NOT_FOUND      metadata lists the models that exist
    ├── FailedPrecondition     FAILED_PRECONDITION  FAILED_PRECONDITION  the mesh is not in a state for it
    ├── ResourceExhausted      RESOURCE_EXHAUSTED   RESOURCE_EXHAUSTED
    │   ├── Overloaded         RESOURCE_EXHAUSTED   OVERLOADED           RetryInfo says when to come back
    │   └── TooLarge           RESOURCE_EXHAUSTED   MESSAGE_TOO_LARGE    metadata gives the limit
    ├── Unavailable            UNAVAILABLE          UNAVAILABLE          no replica, or it can't be reached
    ├── DeadlineExceeded       DEADLINE_EXCEEDED    DEADLINE_EXCEEDED
    ├── Cancelled              CANCELLED            CANCELLED
    ├── PermissionDenied       PERMISSION_DENIED    PERMISSION_DENIED
    ├── Unauthenticated        UNAUTHENTICATED      UNAUTHENTICATED
    ├── Unimplemented          UNIMPLEMENTED        UNIMPLEMENTED
    └── Internal               INTERNAL             INTERNAL             `id` in metadata stands in the log

Details follow google.rpc (error_details.proto); the domain of every ErrorInfo is `meshwork`, and
RequestInfo has the id of the call's trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import grpc
from google.protobuf import duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from meshwork.names import TRACE_HEADER, trace_id

DOMAIN = "meshwork"
DETAILS_KEY = "grpc-status-details-bin"


_LONGEST = 1000  # characters; a status travels in headers, which gRPC bounds at 8 KB


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class MeshworkError(Exception):
    """Anything that Meshwork reports; `str(error)` says what to do.

    Attributes:
        code: canonical gRPC code.
        reason: UPPER_SNAKE_CASE cause, stable for programs.
        metadata: more facts about the cause, by name.
        retry_after_s: seconds after which to try again, or None.
        trace_id: of the trace that shows the call: `meshwork trace show` draws it; "" if there is none.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        text: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.trace_id = ""

    def details(self) -> Iterator[message.Message]:
        """The google.rpc details of this error, ErrorInfo first."""
        yield error_details_pb2.ErrorInfo(
            reason=self.reason, domain=DOMAIN, metadata={k: _bounded(v) for k, v in self.metadata.items()}
        )
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(max(0, int(self.retry_after_s * 1e9)))
            yield error_details_pb2.RetryInfo(retry_delay=delay)

    def status(self, trace: str = "") -> status_pb2.Status:
        """This error as the google.rpc.Status that travels in `grpc-status-details-bin`.

        Args:
            trace: id of the trace that shows the call, for its RequestInfo; this error's own if empty.
        """
        status = status_pb2.Status(code=self.code.value[0], message=_bounded(str(self)))
        for detail in self.details():
            status.details.add().Pack(detail)
        if trace or self.trace_id:
            request = error_details_pb2.RequestInfo(request_id=trace or self.trace_id)
            status.details.add().Pack(request)
        return status


class InvalidArgument(MeshworkError):
    """A field of the request is wrong.

    Args:
        text: what is wrong and what would be right.
        field: path of the field in the request, for example `image.content` or `texts[3]`.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_FIELD"

    def __init__(self, text: str, *, field: str = "", **facts: Any) -> None:
        super().__init__(f"{field}: {text}" if field else text, **facts)
        self.field = field
        self.remedy = text
        if field:
            self.metadata.setdefault("field", field)

    def details(self) -> Iterator[message.Message]:
        """As its base class's, and the thing that is wrong."""
        yield from super().details()
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=_bounded(self.remedy)
            )
            yield error_details_pb2.BadRequest(field_violations=[violation])


class NotFound(MeshworkError):
    """Something that the request names does not exist.

    Args:
        text: what is missing and what there is.
        kind: what sort of thing, for example `model`.
        name: its name.
    """

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "RESOURCE_NOT_FOUND"

    def __init__(self, text: str, *, kind: str = "", name: str = "", **facts: Any) -> None:
        super().__init__(text, **facts)
        self.kind = kind
        self.name = name

    def details(self) -> Iterator[message.Message]:
        """As its base class's, and the thing that is wrong."""
        yield from super().details()
        if self.kind:
            yield error_details_pb2.ResourceInfo(
                resource_type=self.kind, resource_name=_bounded(self.name), description=_bounded(str(self))
            )


class ModelNotFound(NotFound):
    """No replica serves the model that the request names."""

    default_reason = "MODEL_NOT_FOUND"

    @classmethod
    def among(cls, model: str, service: str, existing: Sequence[str]) -> ModelNotFound:
        """The error for `model`, listing those that exist in `service`, "" for the whole mesh."""
        models = ", ".join(existing) or "none"
        where = f"service {service}" if service else "the mesh"
        return cls(
            f"model: no model {model!r} in {where}; it has: {models}",
            kind="model",
            name=model,
            metadata={"service": service, "models": models},
        )


class FailedPrecondition(MeshworkError):
    """The mesh is not in a state in which this can be done."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class ResourceExhausted(MeshworkError):
    """A limit was met."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"


class Overloaded(ResourceExhausted):
    """The replica has more work than it can finish in time; `retry_after_s` says when to come back."""

    default_reason = "OVERLOADED"


class TooLarge(ResourceExhausted):
    """The message is larger than the mesh takes."""

    default_reason = "MESSAGE_TOO_LARGE"


class Unavailable(MeshworkError):
    """No replica could be reached."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(MeshworkError):
    """The caller's deadline passed before the answer was there."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(MeshworkError):
    """The caller left."""

    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"


class PermissionDenied(MeshworkError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class Unauthenticated(MeshworkError):
    """The caller did not say who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class Unimplemented(MeshworkError):
    """There is no such method."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class Internal(MeshworkError):
    """A defect; the id in `metadata` stands in the server's log beside the cause."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


def tree(root: type[MeshworkError] = MeshworkError) -> Iterator[type[MeshworkError]]:
    """Every class of the tree, each before its subclasses."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def from_status(status: status_pb2.Status) -> MeshworkError:
    """The error that a status stands for: the class by reason, else the class by code."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.BadRequest()
    resource = error_details_pb2.ResourceInfo()
    traced = error_details_pb2.RequestInfo()
    for detail in status.details:
        for known in (info, retry, request, resource, traced):
            detail.Unpack(known)
    candidates = [kind for kind in tree() if kind.code.value[0] == status.code]
    by_reason = [kind for kind in candidates if info.reason and kind.default_reason == info.reason]
    kind = (by_reason or candidates or [MeshworkError])[0]
    error = kind(status.message or kind.default_reason, reason=info.reason, metadata=info.metadata)
    if retry.HasField("retry_delay"):
        error.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    error.trace_id = trace_id(traced.request_id)
    if isinstance(error, InvalidArgument) and request.field_violations:
        error.field = request.field_violations[0].field
        error.remedy = request.field_violations[0].description
    if isinstance(error, NotFound):
        error.kind, error.name = resource.resource_type, resource.resource_name
    return error


def from_rpc_error(error: grpc.RpcError) -> MeshworkError:
    """The error behind a failed call; its details are read where there are some."""
    # Sync and asyncio calls share these methods, but no base class that declares them.
    call: Any = error
    status = status_pb2.Status(code=call.code().value[0], message=call.details() or "")
    shown = ""
    for key, value in call.trailing_metadata() or ():
        if key == TRACE_HEADER:
            shown = trace_id(str(value))
        elif key == DETAILS_KEY:
            detailed = status_pb2.Status()
            try:
                detailed.ParseFromString(value)
            except message.DecodeError:
                continue
            if detailed.code == status.code:
                status = detailed
    known = from_status(status)
    known.trace_id = known.trace_id or shown
    return known


class ConfigError(ValueError):
    """What a process was told cannot be used; says which setting, and what would be right.

    Not a MeshworkError: no call fails of it, the process does not start.
    """

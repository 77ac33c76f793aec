"""The SDK: `meshwork.connect` and `meshwork.connect_async`.

::

    with meshwork.connect("127.0.0.1:8080") as mesh:
        mesh.vision.classify("seven.png").classifications[0].label

Every method takes plain Python values, returns the response message, and raises the exception tree
of `meshwork.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import grpc

from meshwork import channel as channels
from meshwork import contract, retries
from meshwork.admin.v1.admin_client import AdminClient, AsyncAdminClient
from meshwork.calls import Metadata
from meshwork.names import CALLER_HEADER, PRIORITY_HEADER, header_value
from meshwork.nlp.v1.nlp_client import AsyncNlpClient, NlpClient
from meshwork.pipeline.v1.pipeline_client import AsyncPipelineClient, PipelineClient
from meshwork.recommendation.v1.recommendation_client import (
    AsyncRecommendationClient,
    RecommendationClient,
)
from meshwork.router.v1.router_client import AsyncRouterClient, RouterClient
from meshwork.speech.v1.speech_client import AsyncSpeechClient, SpeechClient
from meshwork.trace.v1.trace_client import AsyncTraceClient, TraceClient
from meshwork.translation.v1.translation_client import AsyncTranslationClient, TranslationClient
from meshwork.vision.v1.vision_client import AsyncVisionClient, VisionClient

DEFAULT_ADDRESS = "127.0.0.1:8080"
DEFAULT_TIMEOUT_S = 30.0
Priority = Literal["interactive", "default", "batch"]
C = TypeVar("C")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Manner:
    """How a client calls; see `connect`."""

    address: str | Sequence[str]
    timeout_s: float | None
    credentials: grpc.ChannelCredentials | None
    router: str | Sequence[str]
    zone: str
    metadata: Metadata
    wait_when_full: bool
    hang_s: float


class _Channels:
    """The channels of one client: one through the gateways, or one a service through xDS."""

    def __init__(self, manner: _Manner, make: Any, secure: Any) -> None:
        if channels.addresses(manner.address) == (channels.XDS,) and manner.router:
            channels.use_xds(manner.router, manner.zone or os.environ.get("MESHWORK_ZONE", ""))
        self._manner = manner
        self._make = make
        self._secure = secure
        services = [contract.descriptor(name) for name in (*contract.SERVICES, "router", "admin")]
        config = retries.service_config(services)
        self._options = [*channels.options(config, manner.hang_s), *channels.authority(manner.address)]
        self.made: dict[str, Any] = {}

    def client(self, kind: Callable[..., C], service: str) -> C:
        """The client `kind` on the channel to `service`."""
        manner = self._manner
        target = channels.target(manner.address, service)
        if target not in self.made:
            if manner.credentials is None:
                self.made[target] = self._make(target, options=self._options)
            else:
                self.made[target] = self._secure(target, manner.credentials, options=self._options)
        return kind(
            self.made[target], manner.timeout_s, manner.metadata, wait_when_full=manner.wait_when_full
        )


class Client:
    """A mesh, called from threads. Close it, or use it in a `with`.

    Attributes:
        vision, nlp, speech, translation, recommendation, pipeline: the services.
        router: discovery of services, replicas and models.
        admin: adding, loading, unloading and removing models; only where `address` is a router's own.
        trace: the traces that the mesh keeps; only there, too.
    """

    def __init__(self, manner: _Manner) -> None:
        self._channels = _Channels(manner, grpc.insecure_channel, grpc.secure_channel)
        make = self._channels.client
        self.vision = make(VisionClient, "vision")
        self.nlp = make(NlpClient, "nlp")
        self.speech = make(SpeechClient, "speech")
        self.translation = make(TranslationClient, "translation")
        self.recommendation = make(RecommendationClient, "recommendation")
        self.pipeline = make(PipelineClient, "pipeline")
        self.router = make(RouterClient, "router")
        self.admin = make(AdminClient, "router")
        self.trace = make(TraceClient, "router")

    def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        for channel in self._channels.made.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """A mesh, called from asyncio. Close it, or use it in an `async with`.

    Attributes:
        vision, nlp, speech, translation, recommendation, pipeline: the services.
        router: discovery of services, replicas and models.
        admin: adding, loading, unloading and removing models; only where `address` is a router's own.
        trace: the traces that the mesh keeps; only there, too.
    """

    def __init__(self, manner: _Manner) -> None:
        self._channels = _Channels(manner, grpc.aio.insecure_channel, grpc.aio.secure_channel)
        make = self._channels.client
        self.vision = make(AsyncVisionClient, "vision")
        self.nlp = make(AsyncNlpClient, "nlp")
        self.speech = make(AsyncSpeechClient, "speech")
        self.translation = make(AsyncTranslationClient, "translation")
        self.recommendation = make(AsyncRecommendationClient, "recommendation")
        self.pipeline = make(AsyncPipelineClient, "pipeline")
        self.router = make(AsyncRouterClient, "router")
        self.admin = make(AsyncAdminClient, "router")
        self.trace = make(AsyncTraceClient, "router")

    async def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        for channel in self._channels.made.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(
    address: str | Sequence[str] = DEFAULT_ADDRESS,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    router: str | Sequence[str] = "",
    zone: str = "",
    priority: Priority = "default",
    caller: str = "",
    wait_when_full: bool = False,
    hang_s: float = channels.HANG_S,
) -> Client:
    """A client of the mesh at `address`. It connects with the first call.

    What dies between here and the model is not noticed where a call may be repeated: those that
    change nothing or carry a `request_id` (all but AdminService's) go to another gateway or replica,
    and a text that is being written (`nlp.generate`) goes on where it broke. A call's deadline
    bounds all its tries; the others, and what finds nobody, raise `Unavailable`.

    Args:
        address: a gateway's `host:port`; several, by comma or as a list, share the calls and stand in
            for each other; or `xds:///` to call replicas without a gateway. Names of several are
            looked up once, here: gateways that move should be one name with all their addresses.
        timeout_s: seconds that a call may take unless it says otherwise; None for no bound.
        credentials: for gateways behind TLS; all need a certificate for the first one's name.
        router: with `xds:///`, the router's `host:port`, several as for `address`; not needed where
            GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG says it.
        zone: with `xds:///` and `router`, where this process is, for services that prefer near replicas;
            by default what MESHWORK_ZONE says.
        priority: `interactive` calls pass `default` ones in a replica's queue; `batch` ones fill what
            is left.
        caller: name under which these calls get their fair share of a busy device; by default each
            address gets one.
        wait_when_full: wait out a refusal (RESOURCE_EXHAUSTED) that says when to come back, and call
            again, if the deadline allows it; otherwise it raises `Overloaded`. Not for streams.
        hang_s: seconds after which a gateway or replica that says nothing at all counts as dead; more
            for lines so slow that a request in transit keeps an answer to a ping waiting.

    Raises:
        InvalidArgument: an address is none.
        Unavailable: not one of several names has an IP address.
    """
    return Client(
        _Manner(
            address=address,
            timeout_s=timeout_s,
            credentials=credentials,
            router=router,
            zone=zone,
            metadata=_metadata(priority, caller),
            wait_when_full=wait_when_full,
            hang_s=hang_s,
        )
    )


def connect_async(
    address: str | Sequence[str] = DEFAULT_ADDRESS,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    router: str | Sequence[str] = "",
    zone: str = "",
    priority: Priority = "default",
    caller: str = "",
    wait_when_full: bool = False,
    hang_s: float = channels.HANG_S,
) -> AsyncClient:
    """As `connect`, for asyncio; call it where a loop runs."""
    return AsyncClient(
        _Manner(
            address=address,
            timeout_s=timeout_s,
            credentials=credentials,
            router=router,
            zone=zone,
            metadata=_metadata(priority, caller),
            wait_when_full=wait_when_full,
            hang_s=hang_s,
        )
    )


def _metadata(priority: Priority, caller: str) -> Metadata:
    sent = {PRIORITY_HEADER: "" if priority == "default" else priority, CALLER_HEADER: caller}
    return tuple((name, header_value(value)) for name, value in sent.items() if value)

"""The SDK: `meshwork.connect` and `meshwork.connect_async`.

::

    with meshwork.connect("127.0.0.1:8080") as mesh:
        mesh.vision.classify("seven.png").classifications[0].label

Every method takes plain Python values, returns the response message, and raises the exception tree
of `meshwork.errors`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import grpc

from meshwork import channel as channels
from meshwork.admin.v1.admin_client import AdminClient, AsyncAdminClient
from meshwork.calls import Metadata
from meshwork.names import CALLER_HEADER, PRIORITY_HEADER, header_value
from meshwork.nlp.v1.nlp_client import AsyncNlpClient, NlpClient
from meshwork.recommendation.v1.recommendation_client import (
    AsyncRecommendationClient,
    RecommendationClient,
)
from meshwork.router.v1.router_client import AsyncRouterClient, RouterClient
from meshwork.speech.v1.speech_client import AsyncSpeechClient, SpeechClient
from meshwork.translation.v1.translation_client import AsyncTranslationClient, TranslationClient
from meshwork.vision.v1.vision_client import AsyncVisionClient, VisionClient

DEFAULT_ADDRESS = "127.0.0.1:8080"
DEFAULT_TIMEOUT_S = 30.0
Priority = Literal["interactive", "default", "batch"]


class _Channels:
    """The channels of one client: one through a gateway, or one a service through xDS."""

    def __init__(self, address: str, router: str, make: Any, secure: Any, credentials: Any) -> None:
        if address == channels.XDS and router:
            channels.use_xds(router)
        self._address = address
        self._make = make
        self._secure = secure
        self._credentials = credentials
        self.made: dict[str, Any] = {}

    def to(self, service: str) -> Any:
        target = channels.target(self._address, service)
        if target not in self.made:
            if self._credentials is None:
                self.made[target] = self._make(target, options=channels.OPTIONS)
            else:
                self.made[target] = self._secure(target, self._credentials, options=channels.OPTIONS)
        return self.made[target]


class Client:
    """A mesh, called from threads. Close it, or use it in a `with`.

    Attributes:
        vision, nlp, speech, translation, recommendation: the five services.
        router: discovery of services, replicas and models.
        admin: adding, loading, unloading and removing models; only where `address` is a router's own.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float | None,
        credentials: grpc.ChannelCredentials | None,
        router: str,
        metadata: Metadata,
    ) -> None:
        self._channels = _Channels(address, router, grpc.insecure_channel, grpc.secure_channel, credentials)
        to = self._channels.to
        self.vision = VisionClient(to("vision"), timeout_s, metadata)
        self.nlp = NlpClient(to("nlp"), timeout_s, metadata)
        self.speech = SpeechClient(to("speech"), timeout_s, metadata)
        self.translation = TranslationClient(to("translation"), timeout_s, metadata)
        self.recommendation = RecommendationClient(to("recommendation"), timeout_s, metadata)
        self.router = RouterClient(to("router"), timeout_s, metadata)
        self.admin = AdminClient(to("router"), timeout_s, metadata)

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
        vision, nlp, speech, translation, recommendation: the five services.
        router: discovery of services, replicas and models.
        admin: adding, loading, unloading and removing models; only where `address` is a router's own.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float | None,
        credentials: grpc.ChannelCredentials | None,
        router: str,
        metadata: Metadata,
    ) -> None:
        self._channels = _Channels(
            address, router, grpc.aio.insecure_channel, grpc.aio.secure_channel, credentials
        )
        to = self._channels.to
        self.vision = AsyncVisionClient(to("vision"), timeout_s, metadata)
        self.nlp = AsyncNlpClient(to("nlp"), timeout_s, metadata)
        self.speech = AsyncSpeechClient(to("speech"), timeout_s, metadata)
        self.translation = AsyncTranslationClient(to("translation"), timeout_s, metadata)
        self.recommendation = AsyncRecommendationClient(to("recommendation"), timeout_s, metadata)
        self.router = AsyncRouterClient(to("router"), timeout_s, metadata)
        self.admin = AsyncAdminClient(to("router"), timeout_s, metadata)

    async def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        for channel in self._channels.made.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(
    address: str = DEFAULT_ADDRESS,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    router: str = "",
    priority: Priority = "default",
    caller: str = "",
) -> Client:
    """A client of the mesh at `address`. It connects with the first call.

    Args:
        address: the gateway's `host:port`, or `xds:///` to call replicas without a gateway.
        timeout_s: seconds that a call may take unless it says otherwise; None for no bound.
        credentials: for a gateway behind TLS.
        router: with `xds:///`, the router's `host:port`; not needed where GRPC_XDS_BOOTSTRAP
            or GRPC_XDS_BOOTSTRAP_CONFIG says it.
        priority: `interactive` calls pass `default` ones in a replica's queue; `batch` ones fill what
            is left.
        caller: name under which these calls get their fair share of a busy device; by default each
            address gets one.
    """
    metadata = _metadata(priority, caller)
    return Client(address, timeout_s=timeout_s, credentials=credentials, router=router, metadata=metadata)


def connect_async(
    address: str = DEFAULT_ADDRESS,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    router: str = "",
    priority: Priority = "default",
    caller: str = "",
) -> AsyncClient:
    """As `connect`, for asyncio; call it where a loop runs."""
    metadata = _metadata(priority, caller)
    return AsyncClient(
        address, timeout_s=timeout_s, credentials=credentials, router=router, metadata=metadata
    )


def _metadata(priority: Priority, caller: str) -> Metadata:
    sent = {PRIORITY_HEADER: "" if priority == "default" else priority, CALLER_HEADER: caller}
    return tuple((name, header_value(value)) for name, value in sent.items() if value)

"""A replica of nlp without a model: real server, real lease, canned answers. Run by the gateway tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshwork.channel import PINGS_ALLOWED
from meshwork.errors import ResourceExhausted, Unavailable
from meshwork.front import make_server
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc
from meshwork.router.v1 import router_pb2
from meshwork.rpc import Metadata, add_servicer
from meshwork.serving.load import ORCA_TRAILER, encode_report
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.type.v1 import served_by_pb2

LEASE_TTL_S = 6.0
PIECES = 100


class Reported:
    """Reports the utilization that it was told to, beside 100 answers a second."""

    utilization = 0.1

    def begins(self) -> None:
        pass

    def ends(self, method: str, code: object, seconds: float) -> None:
        pass

    def trailer(self) -> Metadata:
        return ((ORCA_TRAILER, encode_report(utilization=self.utilization, rps=100.0, eps=0.0)),)


class FakeNlp(nlp_pb2_grpc.NlpServiceServicer):
    """Says which replica answered which model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.load = Reported()

    def _served(self, model: str) -> served_by_pb2.ServedBy:
        return served_by_pb2.ServedBy(replica=self.name, model=model)

    async def Embed(self, request: nlp_pb2.EmbedRequest, context: object) -> nlp_pb2.EmbedResponse:
        if request.texts[:1] == ["sleep"]:
            await asyncio.sleep(30)
        if request.texts[:1] == ["unavailable"] and request.texts[1:] in ([], [self.name]):
            raise Unavailable("as asked")
        if request.texts[:1] == ["exhausted"]:
            raise ResourceExhausted("as asked")
        if request.texts[:1] == ["busy"] and request.texts[1] == self.name:
            self.load.utilization = float(request.texts[2])
        if request.texts[:1] == ["late"] and request.texts[1] in ("", self.name):
            await asyncio.sleep(float(request.texts[2]))
        return nlp_pb2.EmbedResponse(served_by=self._served(request.model or "default"))

    async def ClassifyText(
        self, request: nlp_pb2.ClassifyTextRequest, context: object
    ) -> nlp_pb2.ClassifyTextResponse:
        return nlp_pb2.ClassifyTextResponse(served_by=self._served(request.model or "default"))

    async def MatchTexts(
        self, request: nlp_pb2.MatchTextsRequest, context: object
    ) -> nlp_pb2.MatchTextsResponse:
        return nlp_pb2.MatchTextsResponse(served_by=self._served(request.model or "default"))

    async def Generate(
        self, request: nlp_pb2.GenerateRequest, context: object
    ) -> AsyncIterator[nlp_pb2.GenerateResponse]:
        for number in range(PIECES):
            last = number == PIECES - 1
            await asyncio.sleep(0.02)
            yield nlp_pb2.GenerateResponse(
                text=f"{number} ", served_by=self._served(request.model or "default") if last else None
            )

    ExtractEntities = AnswerQuestion = MatchTexts  # nobody calls them here


async def main(name: str, *models: str) -> None:
    """Serves `models` (`name@version`; the first one is the default) as replica `name`."""
    limit = 64 * 1024 * 1024
    server = make_server([("grpc.max_receive_message_length", limit), *PINGS_ALLOWED])
    servicer = FakeNlp(name)
    add_servicer(server, "meshwork.nlp.v1.NlpService", servicer, servicer.load)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    replica = router_pb2.Replica(
        name=name,
        service="nlp",
        address=f"127.0.0.1:{port}",
        state=router_pb2.REPLICA_STATE_READY,
        pid=os.getpid(),
        zone=os.environ.get("MESHWORK_ZONE", ""),
    )
    methods = ["Embed", "ClassifyText", "Generate"]
    for index, model in enumerate(models):
        named, _, version = model.partition("@")
        replica.models.add(
            name=named,
            version=version,
            service="nlp",
            state=router_pb2.MODEL_STATE_READY,
            methods=methods,
            default_methods=[] if index else methods,
        )
    book = LeaseBook(connect(os.environ["MESHWORK_REDIS_URL"]), Keys())
    while True:
        with contextlib.suppress(*REDIS_AWAY):
            await book.renew(replica, LEASE_TTL_S)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

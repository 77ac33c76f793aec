"""A server of Generate that dies in the middle of its answer: a process, so that it can be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from meshwork.channel import PINGS_ALLOWED
from meshwork.nlp.v1 import nlp_pb2
from meshwork.type.v1 import served_by_pb2

ROOT = Path(__file__).resolve().parents[2]
FULL_NAME = "meshwork.nlp.v1.NlpService"


async def serve(pieces: int, dies_after: int, word: str) -> None:
    """Answers with `pieces` pieces made of `word`, prompt and seed; dies after `dies_after` of them."""
    server = grpc.aio.server(options=PINGS_ALLOWED)

    async def generate(
        request: nlp_pb2.GenerateRequest, context: object
    ) -> AsyncIterator[nlp_pb2.GenerateResponse]:
        for number in range(pieces):
            if number == dies_after:
                await asyncio.sleep(0.1)  # what was written is on its way
                os._exit(9)
            if number == 3 and request.prompt == "wait":
                await asyncio.sleep(60)
            piece = nlp_pb2.GenerateResponse(text=f"{word}{number}{request.prompt}{request.seed} ")
            if number == pieces - 1:
                piece.finish_reason = nlp_pb2.FINISH_REASON_END
                piece.time_to_first_piece.FromNanoseconds(os.getpid())
                piece.served_by.CopyFrom(served_by_pb2.ServedBy(replica=str(os.getpid())))
            yield piece

    handler = grpc.unary_stream_rpc_method_handler(
        generate, nlp_pb2.GenerateRequest.FromString, nlp_pb2.GenerateResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FULL_NAME, {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201 - to who started us
    await server.wait_for_termination()


@contextmanager
def dying(pieces: int = 20, dies_after: int = -1, word: str = "w") -> Iterator[str]:
    """Its address while it runs; `dies_after` -1 for one that lives."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(pieces), str(dies_after), word],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))

"""`python -m benchmarks.paced.caller ADDRESS`: a client process; prints what its calls cost it.

So many calls are in flight at all times, over one channel. The last line is JSON: calls, p50_ms,
p99_ms, and cpu_us, this process's own CPU time a call.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from typing import Any

import grpc.aio

from benchmarks.paced.mesh import channel_options
from meshwork import channel as channels
from meshwork.names import MODEL_HEADER, header_value
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc


async def load(
    address: str, in_flight: int, seconds: float, warm_s: float, model: str = ""
) -> dict[str, Any]:
    """Calls for that long; the warm-up before it counts for nothing.

    Args:
        model: what the calls name, as the SDK does; "" for nothing.
    """
    request = nlp_pb2.EmbedRequest(texts=["x"], model=model)
    metadata = ((MODEL_HEADER, header_value(model)),) if model else ()
    latencies: list[float] = []
    options = [*channel_options(), ("grpc.lb_policy_name", "round_robin")]  # where the address names several
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = nlp_pb2_grpc.NlpServiceStub(channel)

        async def caller(ends: float) -> None:
            while (begun := time.perf_counter()) < ends:
                await stub.Embed(request, timeout=10, wait_for_ready=True, metadata=metadata)
                latencies.append(time.perf_counter() - begun)

        async def window(seconds: float) -> float:
            latencies.clear()
            before = time.process_time()
            ends = time.perf_counter() + seconds
            await asyncio.gather(*(caller(ends) for _ in range(in_flight)))
            return time.process_time() - before

        await window(warm_s)
        gc.collect()
        gc.freeze()
        cpu_s = await window(seconds)
    latencies.sort()
    return {
        "calls": len(latencies),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 3),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 3),
        "cpu_us": cpu_s / len(latencies) * 1e6,
    }


def main() -> None:
    """Calls, and tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="host:port, ipv4:HOST:PORT,HOST:PORT, or xds:///SERVICE")
    parser.add_argument("--router", default="", help="of an xds:/// address, host:port")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-s", type=float, default=1.0)
    parser.add_argument("--model", default="", help="that the calls name")
    options = parser.parse_args()
    if options.router:
        channels.use_xds(options.router)
    done = load(options.address, options.in_flight, options.seconds, options.warm_s, options.model)
    print(json.dumps(asyncio.run(done)))


if __name__ == "__main__":
    main()

"""How near to the ideal calls are spread over replicas of different speeds.

Replicas are processes of the product that hold their device for a given time by sleeping, so that two
cores are enough. What a call takes a replica beyond its sleep, while all of them work and share those
cores, is measured first for each mix, and counts as part of its pace: the load is a share of what the
replicas really can do. Calls come as a Poisson stream whose
times do not depend on answers (open loop), the same times for every policy; a call's latency runs from
when it was due. All of a policy's calls go over one channel:

    round_robin, least_request    a plain Envoy with a static configuration and that policy
    gateway                       the product's gateway (Envoy) with its default policy
    proxyless                     an xds:/// channel that was just connected and knows no weights
    ideal                         one shared queue, simulated (benchmarks/paced/mixes.py)

A mix is measured for as long as LEAST_CALLS take, since the 99th percentile of fewer says little; those
that change their speeds halfway for CHANGE_S at least, so that the calls that meet the change are about a
hundredth of all. Round robin is left out at the higher load,
where its queues have no end. A call that fails, or takes longer than 2 s, counts as 2 s.

The target for the 99th percentile of `gateway` and `proxyless` is the larger of 1.3 times the ideal's
and 0.4 times that of least request; `worst_ratio` is the largest of all values over their targets. Of
the first 2 s alone, in which a new channel has to learn the weights, proxyless is held against least
request.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from benchmarks.paced.mesh import PacedMesh, channel_options, running
from benchmarks.paced.mixes import MIXES, Mix, arrivals, ideal, percentiles_ms
from benchmarks.paced.plain import plain_envoy
from benchmarks.report import Targets, arguments, finish, machine
from meshwork import channel as channels
from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc

LOADS = (0.65, 0.85)
LATEST_S = 2.0
WARM_S = 0.8
RAMP_S = 5.0  # a new replica comes in slowly (meshwork/serving/load.py)
COLD_S = 2.0
CALIBRATE_S = 4.0
LEAST_CALLS = 1500
CHANGE_S = 12.0
ROUND_ROBIN, LEAST, GATEWAY, COLD = "round_robin", "least_request", "gateway", "proxyless"
SHORT = ("one_fast", "facts", "near")
ANOTHER_CLIENT = [("grpc.use_local_subchannel_pool", 1)]


async def _call(stub: Any, due: float) -> float:
    """Seconds from when the call was due to its answer."""
    loop = asyncio.get_running_loop()
    request = nlp_pb2.EmbedRequest(texts=["x"])
    try:
        await stub.Embed(request, timeout=max(0.001, due + LATEST_S - loop.time()))
    except grpc.RpcError:
        return LATEST_S
    return min(loop.time() - due, LATEST_S)


async def _open_loop(address: str, times: Sequence[float], middle: Any = None) -> list[float]:
    """Calls `address` at those times; gives the latencies.

    Args:
        middle: (when, what to do then), once.
    """
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel(address, options=[*channel_options(), *ANOTHER_CLIENT]) as channel:
        stub = nlp_pb2_grpc.NlpServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 10)
        begun = loop.time() + 0.05
        if middle is not None:
            loop.call_at(begun + middle[0], middle[1])
        tasks = []
        for each in times:
            if (wait := begun + each - loop.time()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(_call(stub, begun + each)))
        return list(await asyncio.gather(*tasks))


async def _saturated(address: str, seconds: float, callers: int) -> float:
    """Calls a second that the replica at `address` answers while some always wait."""
    answered = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = nlp_pb2_grpc.NlpServiceStub(channel)
        ends = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal answered
            while time.monotonic() < ends:
                await stub.Embed(nlp_pb2.EmbedRequest(texts=["x"]))
                answered += 1

        await asyncio.gather(*(caller() for _ in range(callers)))
    return answered / seconds


def overheads_ms(mesh: PacedMesh, mix: Mix) -> list[float]:
    """What a batch takes each replica beyond its sleep while all of them work."""

    async def rates(seconds: float) -> list[float]:
        return await asyncio.gather(
            *(
                _saturated(mesh.address(index), seconds, max(4, 2 * pace.most))
                for index, pace in enumerate(mix.paces)
            )
        )

    _set(mesh, mix, 0.0)
    asyncio.run(rates(0.5))
    found = asyncio.run(rates(CALIBRATE_S))
    return [
        max(0.0, 1000 * (pace.most / rate - pace.seconds(pace.most)))
        for pace, rate in zip(mix.paces, found, strict=True)
    ]


def _set(mesh: PacedMesh, mix: Mix, share: float) -> None:
    for index, pace in enumerate(mix.at(share)):
        mesh.pace(index, pace)


def measure(
    mesh: PacedMesh,
    plain: Mapping[str, str],
    mix: Mix,
    *,
    load: float,
    seconds: float,
    more_ms: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Percentiles of each policy for one mix and load.

    Args:
        plain: addresses of the plain Envoys, by policy.
        more_ms: what a batch takes each replica beyond its sleep.
    """
    real = mix.slower(more_ms)
    times = arrivals(real, load, seconds, seed)
    best = ideal(real, times, seconds)
    figures: dict[str, Any] = {
        "calls": len(times),
        "overheads_ms": [round(each, 2) for each in more_ms],
        "ideal": percentiles_ms(best),
    }
    targets = {**plain, GATEWAY: mesh.gateway, COLD: "xds:///nlp"}
    for policy in (ROUND_ROBIN, LEAST, GATEWAY, COLD)[load > LOADS[0] :]:
        _set(mesh, mix, 0.0)
        middle = (seconds / 2, lambda: _set(mesh, mix, 0.5)) if mix.later else None
        # What is measured is the policy, not a gateway that has just been started, nor replicas that go by
        # the paces they had before. The channel of the policy COLD stays cold.
        warmed = targets[GATEWAY if policy == COLD else policy]
        asyncio.run(_open_loop(warmed, arrivals(real, LOADS[0], WARM_S, 0)))
        latencies = asyncio.run(_open_loop(targets[policy], times, middle))
        figures[policy] = percentiles_ms(latencies)
        for name, cold in (("first_2_s_p99", True), ("later_p99", False)):
            part = [each for due, each in zip(times, latencies, strict=True) if (due < COLD_S) == cold]
            figures[policy][name] = percentiles_ms(part)["p99"]
        if max(latencies) >= LATEST_S:
            figures[policy]["over_2_s"] = sum(each >= LATEST_S for each in latencies)
            time.sleep(LATEST_S)  # until the replicas have dropped what nobody waits for
    limit = max(1.3 * figures["ideal"]["p99"], 0.4 * figures[LEAST]["p99"])
    figures["target_p99"] = round(limit, 1)
    figures["ratios"] = {name: round(figures[name]["p99"] / limit, 2) for name in ("gateway", COLD)}
    figures["cold"] = round(figures[COLD]["first_2_s_p99"] / figures[LEAST]["first_2_s_p99"], 2)
    return figures


def _seconds(mix: Mix, load: float, calls: int) -> float:
    """How long `mix` is to be measured at `load`."""
    rate = load * min(sum(pace.capacity for pace in mix.at(share)) for share in (0.0, 1.0))
    return max(calls / rate, CHANGE_S if mix.later else COLD_S + 1.0)


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--calls", type=int, default=LEAST_CALLS, help="for a mix, load and policy, at least")
    parser.add_argument("--short", action="store_true", help="three mixes only")
    parser.add_argument("--mixes", nargs="*", help="only these")
    options = parser.parse_args()
    names = options.mixes or (SHORT if options.short else [mix.name for mix in MIXES])
    mixes = [mix for mix in MIXES if mix.name in names]
    before = machine()
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        there = max(len(mix.paces) for mix in mixes)
        with running(Path(folder), there) as mesh:
            channels.use_xds(mesh.router)
            gc.freeze()
            time.sleep(RAMP_S)
            for mix in mixes:
                while there > len(mix.paces):
                    there -= 1
                    mesh.stop(f"nlp-{there}")
                mesh.settle(there)
                more_ms = overheads_ms(mesh, mix)
                hosts = [mesh.address(index) for index in range(there)]
                with ExitStack() as stack:
                    plain = {
                        name: stack.enter_context(plain_envoy(Path(folder), hosts, name.upper()))[0]
                        for name in (ROUND_ROBIN, LEAST)
                    }
                    for load in LOADS:
                        name = f"{mix.name}_{load:.0%}".removesuffix("%")
                        cases[name] = measure(
                            mesh,
                            plain,
                            mix,
                            load=load,
                            seconds=_seconds(mix, load, options.calls),
                            more_ms=more_ms,
                            seed=len(cases),
                        )
                        if not options.json:
                            print(name, json.dumps(cases[name]), file=sys.stderr, flush=True)
    targets: Targets = {
        f"{name}_{load:.0%}_worst_ratio".replace("%", ""): (
            max(each["ratios"][name] for key, each in cases.items() if key.endswith(f"{load:.0%}"[:-1])),
            "<=",
            1.0,
        )
        for name in ("gateway", COLD)
        for load in LOADS
    }
    targets["worst_cold_p99_over_least_request"] = (
        max(each["cold"] for each in cases.values()),
        "<=",
        1.0,
    )
    finish("balance", before, cases, targets, quiet=options.json)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    main()

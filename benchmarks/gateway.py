"""What a call costs on its way: through the gateway beside a plain Envoy, proxyless beside direct.

Two replicas of the product with a model that costs nothing, and five ways to them, in turn, again and
again, by the same client:

    direct       a channel to the addresses of both, round robin
    proxyless    xds:///, the product's default policy over both
    plain        an Envoy with a static configuration: no filter but the router, HTTP/2 on both sides,
                 plain round robin over both
    gateway      the product's gateway: any client, any model, REST and gRPC-Web on the same port
    named        the same by calls that name their model, as they must where a service has several: the
                 gateway reads each request for it

CPU is that of all processes a call goes through (client, proxy, replicas), and `proxy_us` the proxy's
own; a ratio is the median over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.paced.mesh import ROOT, PacedMesh, running
from benchmarks.paced.mixes import Pace
from benchmarks.paced.plain import plain_envoy
from benchmarks.paced.service import MODEL
from benchmarks.report import Targets, arguments, finish, machine

REPLICAS = 2
NAMED = "named"


def gateway_process(mesh: PacedMesh) -> psutil.Process:
    """The Envoy that the product's router started."""
    record = json.loads((mesh.folder("router") / "envoy.pid").read_text())
    return psutil.Process(record["pid"])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def turn(
    way: str, address: str, proxy: psutil.Process | None, servers: Sequence[psutil.Process], options: Any
) -> dict[str, float]:
    """One way, once: latency, and microseconds of CPU a call."""
    command = [sys.executable, "-m", "benchmarks.paced.caller", address]
    command += ["--in-flight", str(options.in_flight), "--seconds", str(options.seconds)]
    command += ["--warm-s", str(options.warm_s)]
    if way == NAMED:
        command += ["--model", MODEL]
    if address.startswith("xds:"):
        command += ["--router", options.router]
    watched = [*servers, *([proxy] if proxy else [])]
    before = [_cpu_s(each) for each in watched]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-1500:]}")
    spent = [_cpu_s(each) - earlier for each, earlier in zip(watched, before, strict=True)]
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    # The processes worked for the warm-up too, whose calls the client does not tell.
    calls = said["calls"] * (options.seconds + options.warm_s) / options.seconds
    said["client_us"] = said.pop("cpu_us")
    said["server_us"] = sum(spent[: len(servers)]) / calls * 1e6
    said["proxy_us"] = spent[-1] / calls * 1e6 if proxy else 0.0
    said["total_us"] = said["client_us"] + said["server_us"] + said["proxy_us"]
    return said


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--warm-s", type=float, default=1.0, help="before it")
    parser.add_argument("--in-flight", type=int, default=8, help="calls at a time")
    parser.add_argument("--short", action="store_true", help="two rounds of 1.5 s")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seconds = 2, 1.5
    before = machine()
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), REPLICAS) as mesh:
        for index in range(REPLICAS):
            mesh.pace(index, Pace(0.0))
        options.router = mesh.router
        hosts = [mesh.address(index) for index in range(REPLICAS)]
        servers = [psutil.Process(mesh.processes[f"nlp-{index}"].pid) for index in range(REPLICAS)]
        with plain_envoy(Path(folder), hosts, "ROUND_ROBIN") as (plain, plain_proxy):
            ways = {
                "direct": (f"ipv4:{','.join(hosts)}", None),
                "proxyless": ("xds:///nlp", None),
                "plain": (plain, plain_proxy),
                "gateway": (mesh.gateway, gateway_process(mesh)),
                NAMED: (mesh.gateway, gateway_process(mesh)),
            }
            for number in range(options.rounds):
                order = list(ways) if number % 2 == 0 else list(ways)[::-1]
                rounds.append({way: turn(way, *ways[way], servers, options) for way in order})
    figures: dict[str, Any] = {
        way: {key: round(statistics.median(each[way][key] for each in rounds), 3) for key in rounds[0][way]}
        for way in ways
    }

    def ratio(key: str, one: str, other: str) -> float:
        return round(statistics.median(each[one][key] / each[other][key] for each in rounds), 3)

    figures["gateway_envoy_over_plain_envoy"] = ratio("proxy_us", "gateway", "plain")
    figures["named_envoy_over_plain_envoy"] = ratio("proxy_us", NAMED, "plain")
    figures["gateway_p50_over_plain"] = ratio("p50_ms", "gateway", "plain")
    figures["proxyless_p50_over_direct"] = ratio("p50_ms", "proxyless", "direct")
    figures["proxyless_total_over_direct"] = ratio("total_us", "proxyless", "direct")
    targets: Targets = {
        "gateway_cpu_over_plain_envoy": (ratio("total_us", "gateway", "plain"), "<=", 1.05),
        "named_cpu_over_plain_envoy": (ratio("total_us", NAMED, "plain"), "<=", 1.05),
        "proxyless_client_cpu_over_direct": (ratio("client_us", "proxyless", "direct"), "<=", 1.05),
    }
    finish("gateway", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    main()

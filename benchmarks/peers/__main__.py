"""Installs the peers, makes the data, and measures peers alone: `python -m benchmarks.peers --help`."""

from __future__ import annotations

import argparse

from benchmarks.peers.catalog import WIRES, present
from benchmarks.peers.install import install

IN_FLIGHT = {"text": (1, 64), "vector": (1, 64), "image": (1, 16)}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    added = commands.add_parser("install", help="make the virtual environments, a few GB in .bench/")
    added.add_argument("names", nargs="*", help="peers; all of them if none is named")
    commands.add_parser("data", help="make weights, requests and reference answers")
    run = commands.add_parser("run", help="measure peers on a workload")
    run.add_argument("workload", choices=tuple(IN_FLIGHT))
    run.add_argument("names", nargs="*", default=list(WIRES), help="peers; all that are installed by default")
    options = parser.parse_args()
    if options.command == "install":
        install(options.names)
    elif options.command == "data":
        from benchmarks.peers import data

        data.make()
    else:
        _run(options.workload, options.names)


def _run(workload: str, names: list[str]) -> None:
    for contender in present(names, workload):
        try:
            result = contender.measure(IN_FLIGHT[workload], windows=3, window_s=3, warm_s=1.5)
        except RuntimeError as error:
            print(error, flush=True)
            continue
        for count, load in result.loads.items():
            print(
                f"{contender.name:<10}{workload:<8}{count:>3} in flight {load['rps']:>9.1f}/s, "
                f"p50 {load['p50_ms']:.2f} p99 {load['p99_ms']:.2f} ms, "
                f"server {load['server_cpu_us']:.0f} us a request on {load['server_cores']:.2f} cores, "
                f"{load['checked']} checked to {load['max_error']:.1e}, "
                f"{load['errors']} failed {load['error']}, ready in {result.ready_s} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

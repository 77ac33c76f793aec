"""Callers through the SDK, in a process of their own: gRPC reads its xDS bootstrap once a process.

Prints the name of each replica when it first answers; told so by a line on stdin, prints what came of
the calls as JSON and ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import meshwork


def main(address: str, router: str, workers: int) -> None:
    """Calls with `workers` threads until told to stop."""
    stop, lock = threading.Event(), threading.Lock()
    answers: dict[str, int] = {}
    errors: list[str] = []
    worst_s = [0.0]

    def call() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            try:
                name = mesh.nlp.embed("a", timeout_s=20).served_by.replica
            except meshwork.MeshworkError as error:
                errors.append(f"{error.code} {error}")
                continue
            with lock:
                worst_s[0] = max(worst_s[0], time.monotonic() - begun)
                answers[name] = answers.get(name, 0) + 1
                if answers[name] == 1:
                    print(name, flush=True)  # noqa: T201 - to who started us

    with meshwork.connect(address, router=router) as mesh:
        threads = [threading.Thread(target=call) for _ in range(workers)]
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        stop.set()
        for thread in threads:
            thread.join()
    cpu_s = sum(os.times()[:2])
    report = {"answers": answers, "errors": errors, "worst_s": worst_s[0], "cpu_s": cpu_s}
    print(json.dumps(report), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

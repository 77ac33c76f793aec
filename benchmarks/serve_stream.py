"""Text generation: tokens a second and time to the first token, beside transformers' own generate.

One replica of nlp, called through the SDK by 1 to 32 callers at once, and `generate` of transformers on
the same model and as many threads: per request (one caller) and, stronger, all callers as one padded
batch. They take turns. CPU is that of the process that computes, a token. Orders are of mixed lengths
(`benchmarks.stream.model`), choices greedy, and texts are compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.stream.contenders import Contender, Transformers, replica
from benchmarks.stream.model import Answer, make, orders
from meshwork.model_config import Precision

CALLERS = (1, 4, 8, 16, 32)
ONE_CALLERS_ORDERS = 4  # one after the other, as a single one says little


def measure(contender: Contender, callers: int) -> tuple[dict[str, float], list[Answer]]:
    """One turn: figures, and the answers."""
    began, cpu_before = time.perf_counter(), contender.cpu_s()
    if callers == 1:
        answers = [answer for order in orders(ONE_CALLERS_ORDERS) for answer in contender.turn([order])]
    else:
        answers = contender.turn(orders(callers))
    elapsed_s = time.perf_counter() - began
    tokens = sum(answer.tokens for answer in answers)
    firsts = [answer.first_s for answer in answers]
    figures = {
        "tokens_per_s": tokens / elapsed_s,
        "first_ms_p50": float(np.percentile(firsts, 50)) * 1e3,
        "first_ms_p99": float(np.percentile(firsts, 99)) * 1e3,
        "cpu_ms_per_token": (contender.cpu_s() - cpu_before) / tokens * 1e3,
    }
    return figures, answers


def compare(
    contenders: dict[str, Contender], callers: Sequence[int], rounds: int
) -> tuple[dict[str, Any], int]:
    """The median figures of each over turns taken alternately, and how many texts differed."""
    turns: dict[str, dict[int, list[dict[str, float]]]] = {
        name: {count: [] for count in callers} for name in contenders
    }
    different = 0
    for contender in contenders.values():
        contender.turn(orders(2))  # warm
    for count in callers:
        for _ in range(rounds):
            texts = []
            for name, contender in contenders.items():
                figures, answers = measure(contender, count)
                turns[name][count].append(figures)
                texts.append([answer.text for answer in answers])
            different += sum(ours != theirs for ours, theirs in zip(*texts, strict=True))
    medians = {
        name: {
            str(count): {key: round(float(np.median([each[key] for each in found])), 2) for key in found[0]}
            for count, found in by_count.items()
        }
        for name, by_count in turns.items()
    }
    return medians, different


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender")
    parser.add_argument("--callers", type=int, nargs="*", default=list(CALLERS))
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1, help="of torch, for each contender")
    options = parser.parse_args()
    before = machine()
    figures: dict[str, Any] = {"torch_threads": options.threads}
    targets: Targets = {}
    least, most = str(min(options.callers)), str(max(options.callers))
    with tempfile.TemporaryDirectory() as place:
        folder = make(Path(place))
        for precision in options.precisions:
            with replica(folder, precision, options.threads) as ours:
                found, different = compare(
                    {"meshwork": ours, "generate": Transformers(folder, precision, options.threads)},
                    options.callers,
                    options.rounds,
                )
            figures[precision] = {**found, "texts_that_differ": different}
            targets |= judged(precision, found, least, most)
            if precision == "float32":
                targets["float32_texts_that_differ"] = (different, "<=", 0)
    finish("serve_stream", before, figures, targets, quiet=options.json)


def judged(precision: Precision, found: dict[str, Any], least: str, most: str) -> Targets:
    """What is wanted of the figures of one precision."""
    ours, theirs = found["meshwork"], found["generate"]

    def rate(own: str, other: str) -> float:
        return round(ours[own]["tokens_per_s"] / theirs[other]["tokens_per_s"], 2)

    first = ours[most]["first_ms_p50"] / theirs[most]["first_ms_p50"]
    return {
        f"{precision}_rate_{least}_over_generate": (rate(least, least), ">=", 1.0),
        f"{precision}_rate_{most}_over_generate_per_request": (rate(most, least), ">=", 5.0),
        f"{precision}_rate_{most}_over_generate_padded": (rate(most, most), ">=", 1.5),
        f"{precision}_first_token_{most}_to_generate_padded": (round(first, 2), "<=", 1.0),
    }


if __name__ == "__main__":
    main()

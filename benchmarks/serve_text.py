"""Texts classified by a served model: Meshwork beside other model servers, and beside the offline limit.

The network is a BERT of 4 layers of 256, the texts are of mixed lengths (`benchmarks.peers.data`).
Meshwork answers ClassifyText from one replica of NLP; the peers answer as each does best. One and 64
calls are in flight; every contender is started anew in each round, in turns.
"""

from __future__ import annotations

from benchmarks.peers.places import TEXT_MODEL
from benchmarks.peers.serving import Question, run


def main() -> None:
    """Measures and prints."""
    run(
        Question(
            benchmark="serve_text",
            workload="text",
            service="nlp",
            wire="benchmarks.peers.typed_wires:ClassifyText",
            source=str(TEXT_MODEL),
            in_flight=(1, 64),
            faster={("float32", 64): 2.5, ("float32", 1): 1.2},
            of_limit={"float32": 0.85, "bfloat16": 0.85},
            tolerance=1e-4,
        ),
        __doc__,
    )


if __name__ == "__main__":
    main()

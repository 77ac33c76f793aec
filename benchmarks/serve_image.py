"""Pictures classified by a served model: Meshwork beside other model servers.

The network is a ResNet-18, the pictures are JPEG files of about 30 kB (`benchmarks.peers.data`).
Meshwork answers Classify from one replica of vision; the peers answer as each does best. One and 16
calls are in flight; every contender is started anew in each round, in turns.
"""

from __future__ import annotations

from benchmarks.peers.places import IMAGE_MODEL
from benchmarks.peers.serving import Question, run


def main() -> None:
    """Measures and prints."""
    run(
        Question(
            benchmark="serve_image",
            workload="image",
            service="vision",
            wire="benchmarks.peers.typed_wires:Classify",
            source=str(IMAGE_MODEL),
            in_flight=(1, 16),
            faster={("float32", 16): 1.15, ("bfloat16", 16): 2.0},
            of_limit={},
            tolerance=1e-4,
            engine="auto",
        ),
        __doc__,
    )


if __name__ == "__main__":
    main()

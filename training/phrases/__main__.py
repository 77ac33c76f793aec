"""`python -m training.phrases`: trains, measures and writes services/translation/starters/phrases."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from services.translation.confidence import FEATURES
from services.translation.tasks.phrases import Phrases
from training.phrases import quality
from training.phrases.corpus import distinct, patterns
from training.phrases.train import train_network, train_tokenizer

STARTER = Path(__file__).resolve().parents[2] / "services" / "translation" / "starters" / "phrases"


def main() -> None:
    """Makes the starter from nothing; about 35 minutes on one core."""
    parser = argparse.ArgumentParser(prog="python -m training.phrases", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=STARTER, help="directory to write (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{len(patterns())} patterns", flush=True)
    tokenizer = train_tokenizer()
    network = train_network(tokenizer)
    known = quality.familiarity()
    unseen = distinct(11, quality.MEASURED + quality.FITTED)
    held_out, inside = unseen[: quality.MEASURED], unseen[quality.MEASURED :]
    task = Phrases(network, tokenizer, known, [0.0] * len(FEATURES), quality.NAMES)
    shares = quality.exact_match(task, held_out)
    trust = quality.fit_confidence(task, inside, held_out)
    detected = quality.detection(held_out)
    quality.write(arguments.out, network, tokenizer, known, trust, shares, detected)
    print(
        f"confidence: AUROC {trust.auroc:.4f}, {trust.inside_above:.1%} of held-out fillings trusted, ",
        end="",
    )
    print(f"{trust.outside_below:.1%} of other sentences not; wrote {arguments.out}")


if __name__ == "__main__":
    main()

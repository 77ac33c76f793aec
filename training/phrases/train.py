"""Fits the network and its tokenizer to the examples."""

from __future__ import annotations

import itertools
import math
import random
import time
import unicodedata
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.translation.networks.seq2seq import END, PAD, Seq2Seq, Seq2SeqConfig
from services.translation.text import normalise
from services.translation.tokenizer import Tokenizer
from training.phrases.corpus import Example, examples
from training.phrases.grammar import LANGUAGES

DIRECTIONS = [("en", other) for other in LANGUAGES[1:]] + [(other, "en") for other in LANGUAGES[1:]]
VOCABULARY = 4096
CYCLES = ((4200, 2e-3), (2000, 1.2e-3), (1800, 1e-3))  # steps, peak rate; a warm restart frees what got stuck
BATCH = 64
WARM_UP_STEPS = 150
POOL = 24  # batches drawn at once and sorted by length, so that little is padding

Pair = tuple[list[int], list[int]]  # source with its tag, target with its tag and END


def train_tokenizer() -> Tokenizer:
    """A tokenizer of source and target texts of 20,000 examples."""

    def texts() -> Iterator[str]:
        for example in itertools.islice(examples(1, held_out=False), 20_000):
            for language, text in example.texts.items():
                yield text
                yield normalise(text, language)

    return Tokenizer.train(texts(), VOCABULARY, LANGUAGES)


def source_text(example: Example, language: str, rng: random.Random) -> str:
    """What a person may write: now and then another wording, or no accents."""
    text = example.texts[language]
    if example.others[language] and rng.random() < 0.3:
        text = rng.choice(example.others[language])
    normal = normalise(text, language)
    if language in ("fr", "es", "de") and rng.random() < 0.05:
        normal = "".join(c for c in unicodedata.normalize("NFD", normal) if not unicodedata.combining(c))
    return normal


def _pairs(config: Seq2SeqConfig, tokenizer: Tokenizer, seed: int) -> Iterator[Pair]:
    rng = random.Random(seed)
    for example in examples(seed, held_out=False):
        for source, target in rng.sample(DIRECTIONS, 2):
            normal = source_text(example, source, rng)
            yield (
                [config.tag(source), *tokenizer.encode(normal)],
                [config.tag(target), *tokenizer.encode(example.texts[target]), END],
            )


def pad(rows: list[list[int]]) -> Tensor:
    """Rows of tokens as one (B, longest) tensor."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def _batches(config: Seq2SeqConfig, tokenizer: Tokenizer, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    pairs = _pairs(config, tokenizer, seed)
    rng = random.Random(seed)
    while True:
        pool = sorted(itertools.islice(pairs, POOL * BATCH), key=lambda pair: (len(pair[1]), len(pair[0])))
        batches = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            yield pad([source for source, _ in batch]), pad([target for _, target in batch])


def train_network(tokenizer: Tokenizer, cycles: Sequence[tuple[int, float]] = CYCLES) -> Seq2Seq:
    """Trains from nothing, printing a line every 50 steps."""
    torch.manual_seed(0)
    config = Seq2SeqConfig(
        vocabulary=tokenizer.size, width=128, heads=4, layers=3, languages=LANGUAGES, dropout=0.05
    )
    network = Seq2Seq(config)
    for index, (steps, peak_rate) in enumerate(cycles):
        train_cycle(network, _batches(config, tokenizer, 7 + index), steps, peak_rate)
    return network


def train_cycle(
    network: Seq2Seq, batches: Iterator[tuple[Tensor, Tensor]], steps: int, peak_rate: float
) -> None:
    """One rise and fall of the learning rate (SGDR, Loshchilov and Hutter, 2017); ends in half precision."""
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    began, total = time.monotonic(), 0.0
    for step, (source, target) in enumerate(itertools.islice(batches, steps)):
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        rate = peak_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = network(source, target[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            left = (time.monotonic() - began) / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}/{steps}  loss {total / 50:.4f}  about {left:.0f} s left", flush=True)
            total = 0.0
    # Weights are stored in half precision: what is measured is what is stored.
    network.half().float().eval()

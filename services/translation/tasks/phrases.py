"""The translator `phrases`: a small transformer from and to English, and through it between other languages.

The directory holds, beside the card: config.json (the network's size, the languages' English names),
tokenizer.json, and model.safetensors with `network.*` in half precision, `familiarity` and `confidence`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from meshwork.serving.card import CardError, ModelDirectory
from services.translation import languages
from services.translation.confidence import FEATURES, confidence, features
from services.translation.familiarity import Familiarity
from services.translation.networks.seq2seq import PAD, Seq2Seq, Seq2SeqConfig
from services.translation.tasks.langid import identifier
from services.translation.tasks.translate import Passage, Tongue, Translated, Translator
from services.translation.text import normalise, sentences
from services.translation.tokenizer import Tokenizer

PIVOT = "en"
MOST_TOKENS = 96  # of a sentence; what is longer is cut, and far from any phrase
MOST_SENTENCES = 64  # in one pass of the network


@dataclass(frozen=True, slots=True)
class Leg:
    """One sentence to carry from one language into another."""

    languages: tuple[str, str]
    source: str  # normalised
    tokens: tuple[int, ...]  # of the source, its tag first
    whole: bool  # not a piece of a longer sentence


@dataclass(frozen=True, slots=True)
class Carried:
    """What the network made of a leg."""

    leg: Leg
    text: str
    log_probabilities: tuple[float, ...]
    complete: bool  # the leg is a whole sentence, and the network ended it by itself


@dataclass(frozen=True, slots=True)
class Prepared:
    """A passage, cut into sentences."""

    text: str
    source: str
    target: str
    certainty: float  # that the source is what it was taken to be
    legs: tuple[Leg, ...]  # none where there is nothing to do


class Phrases(Translator[Prepared, list[list[Carried]]]):
    """Greedy translations by Seq2Seq, with a fitted confidence."""

    def __init__(
        self,
        network: Seq2Seq,
        tokenizer: Tokenizer,
        familiarity: Familiarity,
        weights: Sequence[float],
        names: Mapping[str, str],
        device: str = "cpu",
    ) -> None:
        self._network = network.to(device).eval()
        self._tokenizer = tokenizer
        self._familiarity = familiarity
        self._weights = tuple(weights)
        self._device = device
        self._detector = identifier(names)
        codes = sorted(names)
        self._languages = {
            code: Tongue(names[code], tuple(other for other in codes if other != code)) for code in codes
        }

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device`."""
        file = directory.file("config.json")
        config, names = _read_config(file)
        network = Seq2Seq(config)
        try:
            tensors = load_file(directory.file("model.safetensors"))
            prefix = "network."
            network.load_state_dict(
                {
                    key.removeprefix(prefix): tensor.float()
                    for key, tensor in tensors.items()
                    if key.startswith(prefix)
                }
            )
            familiarity = Familiarity(tensors["familiarity"].numpy())
            weights = tensors["confidence"].tolist()
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise CardError(
                f"{directory.source}: model.safetensors does not fit config.json: {error}"
            ) from error
        if len(weights) != len(FEATURES):
            raise CardError(f"{directory.source}: confidence should hold {len(FEATURES)} weights")
        try:
            tokenizer = Tokenizer.load(directory.file("tokenizer.json"))
        except ValueError as error:
            raise CardError(str(error)) from error
        if tokenizer.size > config.vocabulary:
            raise CardError(f"{directory.source}: tokenizer.json has more tokens than the network")
        return cls(network, tokenizer, familiarity, weights, names, device)

    @property
    def languages(self) -> Mapping[str, Tongue]:
        """The languages, each into all others."""
        return self._languages

    def warm_up(self) -> None:
        """Translates one sentence there and on."""
        self.forward([self.preprocess(Passage("Wo ist der Bahnhof?", "fr", "de"))])

    def preprocess(self, request: Passage) -> Prepared:
        """Finds the languages and cuts the text into sentences of tokens."""
        target = languages.known("target_language", request.target, self._languages, written=True)
        if request.source:
            source, certainty = languages.known("source_language", request.source, self._languages), 1.0
        else:
            code, score = self._detector.classify(request.text)
            source, certainty = str(code), float(score)
        parts = sentences(request.text) if source != target else []
        hop = target if PIVOT in (source, target) else PIVOT
        legs = [leg for part in parts for leg in self.legs(part, source, hop)]
        return Prepared(request.text, source, target, certainty, tuple(legs))

    def legs(self, sentence: str, source: str, target: str) -> list[Leg]:
        """A sentence as the network takes it; one that is too long in several pieces."""
        normal = normalise(sentence, source)
        tokens = self._tokenizer.encode(normal)
        cuts = [tokens[start : start + MOST_TOKENS] for start in range(0, len(tokens), MOST_TOKENS)]
        texts = [normal] if len(cuts) == 1 else [self._tokenizer.decode(cut) for cut in cuts]
        tag = self._network.config.tag(source)
        return [
            Leg((source, target), text, (tag, *cut), len(cuts) == 1)
            for text, cut in zip(texts, cuts, strict=True)
        ]

    def cost(self, prepared: Prepared) -> float:
        """Tokens to read, twice if English lies between."""
        hops = 1 if PIVOT in (prepared.source, prepared.target) else 2
        return 1.0 + hops * sum(len(leg.tokens) for leg in prepared.legs)

    def forward(self, batch: Sequence[Prepared]) -> list[list[list[Carried]]]:
        """For each passage, for each of its sentences, the legs that it went."""
        first = iter(self.carry([leg for prepared in batch for leg in prepared.legs]))
        routes = [[[next(first)] for _ in prepared.legs] for prepared in batch]
        onward = [
            (route, leg)
            for prepared, passage in zip(batch, routes, strict=True)
            for route in passage
            if route[0].leg.languages[1] != prepared.target
            for leg in self.legs(route[0].text, PIVOT, prepared.target)[:1]
        ]
        for (route, _), carried in zip(onward, self.carry([leg for _, leg in onward]), strict=True):
            route.append(carried)
        return routes

    def carry(self, legs: Sequence[Leg]) -> list[Carried]:
        """Runs the network over legs of any number and length, each as if it were alone."""
        carried: list[Carried | None] = [None] * len(legs)
        # Neighbours in length share a pass, so that little of it is padding.
        order = sorted(range(len(legs)), key=lambda index: len(legs[index].tokens))
        for start in range(0, len(order), MOST_SENTENCES):
            rows = order[start : start + MOST_SENTENCES]
            chosen = [legs[row] for row in rows]
            limits = [min(2 * len(leg.tokens) + 12, MOST_TOKENS) for leg in chosen]
            tags = [self._network.config.tag(leg.languages[1]) for leg in chosen]
            decoded = self._network.decode(self._pad(chosen), torch.tensor(tags, device=self._device), limits)
            for row, leg, (tokens, scores) in zip(rows, chosen, decoded, strict=True):
                text = self._tokenizer.decode(tokens)
                complete = leg.whole and len(scores) > len(tokens)
                carried[row] = Carried(leg, text, tuple(scores), complete)
        return [each for each in carried if each is not None]

    def _pad(self, legs: Sequence[Leg]) -> Tensor:
        longest = max(len(leg.tokens) for leg in legs)
        rows = [[*leg.tokens, *([PAD] * (longest - len(leg.tokens)))] for leg in legs]
        return torch.tensor(rows, device=self._device)

    def features(self, carried: Carried) -> tuple[float, ...]:
        """What the confidence of one leg is computed from."""
        leg = carried.leg
        familiarity = self._familiarity.measure(leg.languages[0], leg.source)
        return features(leg.source, carried.text, leg.languages, carried.log_probabilities, familiarity)

    def trust(self, carried: Carried) -> float:
        """The confidence of one leg; nothing is known of what was cut."""
        if not carried.complete:
            return 0.0
        return confidence(self._weights, self.features(carried))

    def postprocess(self, prepared: Prepared, raw: list[list[Carried]]) -> Translated:
        """Joins the sentences; the passage is trusted as its least sentence, and that as both its legs."""
        if not raw:
            # It is in the target language already, or has neither letters nor digits.
            certainty = prepared.certainty if prepared.source == prepared.target else 1.0
            return Translated(prepared.text, prepared.source, certainty)
        trusted = [math.prod(self.trust(carried) for carried in route) for route in raw]
        joint = "" if prepared.target == "zh" else " "
        return Translated(joint.join(route[-1].text for route in raw), prepared.source, min(trusted))


def _read_config(file: Path) -> tuple[Seq2SeqConfig, dict[str, str]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {str(code): str(name) for code, name in content["languages"].items()}
        return Seq2SeqConfig(**content["network"], languages=tuple(names)), names
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{file}: should hold network and languages: {error}") from error

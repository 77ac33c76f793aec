"""Translation with encoder-decoder networks of the Hugging Face layout: what all of them share.

A text goes through the network whole, as `generate` takes it; one that is longer than the network reads,
or writes, goes through it in sentences, as many at once as fit.

The confidence of a translation is the geometric mean of the network's probabilities of its tokens, that
of its least certain piece, and 0 where the network was cut off before it came to an end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from meshwork.errors import InvalidArgument
from meshwork.serving.token_scores import certainty
from services.translation.codes import joint, name
from services.translation.networks.writer import Source, Writer, Written
from services.translation.tasks.translate import Passage, Tongue, Translated, Translator
from services.translation.text import sentences


@dataclass(frozen=True, slots=True)
class Prepared:
    """A passage as the network takes it."""

    text: str
    source: str  # BCP-47
    target: str
    certainty: float  # that the source is what it was taken to be
    pieces: tuple[Source, ...]  # none where there is nothing to do


class PretrainedTranslator(Translator[Prepared, list[Written]]):
    """A network of AutoModelForSeq2SeqLM and its tokenizer.

    Args:
        sources: tags of the languages that it reads.
        targets: tags of those that it writes.
    """

    methods: ClassVar[tuple[str, ...]] = ("TranslateText", "ListLanguages")
    longest_batch_s: ClassVar[float] = 2.0

    def __init__(self, model: Any, tokenizer: Any, sources: Sequence[str], targets: Sequence[str]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._writer = Writer(model)
        into = sorted(targets)
        self._languages = {
            tag: Tongue(name(tag), tuple(other for other in into if other != tag)) for tag in sources
        }

    @property
    def languages(self) -> Mapping[str, Tongue]:
        """The languages that it reads."""
        return self._languages

    @abstractmethod
    def find(self, request: Passage) -> tuple[str, str, float]:
        """Source and target as tags, and how sure the source is.

        Raises:
            InvalidArgument: the model has no such language.
        """

    @abstractmethod
    def encode(self, text: str, source: str, target: str) -> Source:
        """A text as the network reads it."""

    def warm_up(self) -> None:
        """Translates one word."""
        source, tongue = next(iter(self._languages.items()))
        self._writer.write([self.encode("1", source, tongue.targets[0])])

    def preprocess(self, request: Passage) -> Prepared:
        """Finds the languages and makes tokens of the text."""
        source, target, sure = self.find(request)
        if source == target:
            return Prepared(request.text, source, target, sure, ())
        pieces = tuple(self._pieces(request, source, target))
        return Prepared(request.text, source, target, sure, pieces)

    def _pieces(self, request: Passage, source: str, target: str) -> Iterator[Source]:
        longest = self._writer.longest
        whole = self.encode(request.text, source, target)
        if len(whole.tokens) <= longest:
            yield whole
            return
        held = Source(())
        text = ""
        for sentence in sentences(request.text):
            longer = f"{text}{joint(source)}{sentence}" if text else sentence
            made = self.encode(longer, source, target)
            if held.tokens and len(made.tokens) > longest:
                yield held
                longer, made = sentence, self.encode(sentence, source, target)
            if len(made.tokens) > longest:
                raise InvalidArgument(
                    f"has a sentence of {len(made.tokens)} tokens, and this model takes {longest} at once; "
                    "cut it into shorter sentences",
                    field=request.field,
                )
            text, held = longer, made
        if held.tokens:
            yield held

    def cost(self, prepared: Prepared) -> float:
        """Tokens to read."""
        return 1.0 + sum(len(piece.tokens) for piece in prepared.pieces)

    def padded_length(self, prepared: Prepared) -> int:
        """Tokens of the longest piece."""
        return max((len(piece.tokens) for piece in prepared.pieces), default=0)

    def forward(self, batch: Sequence[Prepared]) -> list[list[Written]]:
        """Translates all pieces of all passages."""
        written = iter(self._writer.write([piece for prepared in batch for piece in prepared.pieces]))
        return [[next(written) for _ in prepared.pieces] for prepared in batch]

    def postprocess(self, prepared: Prepared, raw: list[Written]) -> Translated:
        """Makes text of the tokens, and says how sure the network was."""
        if not raw:  # it is in the target language already, or says nothing
            return Translated(prepared.text, prepared.source, prepared.certainty)
        texts = [self._tokenizer.decode(list(each.tokens), skip_special_tokens=True) for each in raw]
        sure = min(certainty(each.log_probabilities) if each.complete else 0.0 for each in raw)
        return Translated(joint(prepared.target).join(texts), prepared.source, sure)

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in [*self._model.parameters(), *self._model.buffers()])

"""Continuous batching: sequences join between steps, advance together, and leave at once.

A step is one forward pass over one token of each sequence that writes, and over prompt tokens of those
that still read, as many as `pace` allows, first come first; but while several read, none takes more
than half, so that a short prompt overtakes a long one. Memory for keys and values is a sequence's own,
of prompt and output together, taken when it joins and given back when it leaves:

    bytes in use = sum over sequences of (prompt tokens + most output tokens) x bytes of a token
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from services.nlp.generation.decoder import Decoder, Rows
from services.nlp.generation.pace import Pace
from services.nlp.generation.sampling import Sampler
from services.nlp.tasks.generate import Sampling


class End(Enum):
    """Why a sequence is over."""

    MODEL = "the model ended it"
    LENGTH = "it has as many tokens as it may"


@dataclass(frozen=True, slots=True)
class Token:
    """One token of one sequence."""

    key: int
    id: int
    end: End | None  # None while more are to come; with End.MODEL, the token is its mark and no text


@dataclass(slots=True)
class _Sequence:
    prompt: list[int]
    most: int  # output tokens
    sampler: Sampler
    memory: Tensor
    read: int = 0  # prompt tokens in memory
    written: list[int] = field(default_factory=list)

    @property
    def reads(self) -> bool:
        return self.read < len(self.prompt)


class Generator:
    """Holds the sequences of one model. Called from one thread.

    Args:
        decoder: the network.
        ends: tokens by which the model ends a text.
        memory_bytes: bound of the keys and values of all sequences.
        most_sequences: bound of their number.
        pace: how many prompt tokens a step reads.
    """

    def __init__(
        self,
        decoder: Decoder,
        ends: frozenset[int],
        *,
        memory_bytes: int,
        most_sequences: int,
        pace: Pace | None = None,
    ) -> None:
        self._decoder = decoder
        self._ends = ends
        self._most_sequences = most_sequences
        self._pace = pace or Pace()
        self.memory_tokens = memory_bytes // decoder.shape.token_bytes
        self.memory_bytes = memory_bytes
        self._free_tokens = self.memory_tokens
        self._sequences: dict[int, _Sequence] = {}  # by key, in the order of joining
        self.steps = 0

    def __len__(self) -> int:
        return len(self._sequences)

    def room_for(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens, prompt and output together, may join now."""
        return len(self._sequences) < self._most_sequences and tokens <= self._free_tokens

    def join(self, key: int, prompt: list[int], most: int, sampling: Sampling) -> None:
        """Begins a sequence.

        Args:
            key: what the caller names it.
            prompt: its tokens, at least one.
            most: output tokens after which it ends, at least one.
            sampling: how tokens are chosen.
        """
        tokens = len(prompt) + most
        memory = self._decoder.shape.memory(tokens)
        self._free_tokens -= tokens
        self._sequences[key] = _Sequence(prompt, most, Sampler(sampling, prompt), memory)

    def leave(self, key: int) -> None:
        """Ends a sequence, if it is still there, and frees its memory."""
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            self._free_tokens += len(sequence.prompt) + sequence.most

    def step(self) -> list[Token]:
        """Advances all sequences; those that end have left.

        Returns:
            The new tokens; none of a sequence whose prompt is not all read.
        """
        self.steps += 1
        writing = {key: each for key, each in self._sequences.items() if not each.reads}
        reading = list(self._next_reading(self._pace.budget(len(writing))))
        asking = list(writing.items())
        ends = list(range(len(writing)))
        row = len(writing)
        for key, sequence, rows in reading:
            row += len(rows.ids)
            sequence.read += len(rows.ids)
            if not sequence.reads:
                asking.append((key, sequence))
                ends.append(row - 1)
        if not row:
            return []
        began = self._pace.clock()
        logits = self._decoder.step(
            [
                Rows(each.memory, len(each.prompt) + len(each.written) - 1, each.written[-1:])
                for each in writing.values()
            ],
            [rows for _, _, rows in reading],
            ends=ends,
        )
        chosen = _choose(asking, logits)
        self._pace.learn(row - len(writing), len(writing), self._pace.clock() - began)
        return [self._written(*each) for each in zip(asking, chosen, strict=True)]

    def _next_reading(self, budget: int) -> Iterator[tuple[int, _Sequence, Rows]]:
        readers = [(key, each) for key, each in self._sequences.items() if each.reads]
        share = budget if len(readers) == 1 else budget // 2
        for key, sequence in readers:
            ids = sequence.prompt[sequence.read : sequence.read + min(share, budget)]
            budget -= len(ids)
            if ids:
                yield key, sequence, Rows(sequence.memory, sequence.read, ids)

    def _written(self, asking: tuple[int, _Sequence], token: int) -> Token:
        key, sequence = asking
        sequence.written.append(token)
        end = None
        if token in self._ends:
            end = End.MODEL
        elif len(sequence.written) == sequence.most:
            end = End.LENGTH
        if end is not None:
            self.leave(key)
        return Token(key, token, end)


def _choose(asking: Sequence[tuple[int, _Sequence]], logits: Tensor) -> list[int]:
    """The next token of each row of `logits`: [rows, vocabulary]."""
    chosen: list[int] = logits.argmax(-1).tolist() if len(asking) else []
    for row, (_, sequence) in enumerate(asking):
        if not sequence.sampler.plain:
            chosen[row] = sequence.sampler.choose(logits[row])
    return chosen

"""Text generation by causal language models of a Hugging Face directory, with continuous batching.

Files: `config.json`, safetensors, `tokenizer.json`; optional `generation_config.json` (its end marks)
and a chat template. Any architecture of transformers whose attention goes through its attention
interface runs (GPT-2, Llama, Qwen2, Qwen3, Mistral, Phi-3, Gemma 3, OLMo 2, ...); others are refused
when they load.

Parameters of the card: `kv_memory_mb`, bound of the memory of keys and values (512), and
`max_sequences`, of texts that are written at once (32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained, load_processor
from services.nlp.generation.decoder import Decoder, UnfitError
from services.nlp.generation.generator import End, Generator
from services.nlp.generation.spelling import Spelling
from services.nlp.tasks.generate import Finish, Order, Piece, Sampling, TextGenerator

_PARAMETERS = {"kv_memory_mb": 512, "max_sequences": 32}
_WARM_UP = 8  # tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the network reads it."""

    ids: list[int]
    most: int  # output tokens
    stop: tuple[str, ...]
    sampling: Sampling

    @property
    def tokens(self) -> int:
        """Tokens of prompt and output together."""
        return len(self.ids) + self.most


@dataclass(slots=True)
class _Text:
    """A text that is being written."""

    prompt_tokens: int
    spelling: Spelling
    output_tokens: int = 0


class CausalLM(TextGenerator[Prompt]):
    """Writes with one network; a step serves all callers."""

    def __init__(self, decoder: Decoder, generator: Generator, tokenizer: Any) -> None:
        self._decoder = decoder
        self._generator = generator
        self._tokenizer = tokenizer
        # Called without transformers' wrapping, which several threads must not share.
        self._encoder = tokenizer.backend_tokenizer
        self._encoder.no_truncation()
        self._encoder.no_padding()
        self._texts: dict[int, _Text] = {}

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the files that this module's docstring names.

        Raises:
            CardError: one is missing, or does not fit.
        """
        parameters = _parameters(directory)
        tokenizer = load_processor("AutoTokenizer", directory)
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise CardError(f"{directory.source}: needs a tokenizer.json")
        network: Any = load_pretrained("AutoModelForCausalLM", directory, device)
        ends = _ends(network)
        try:
            decoder = Decoder(network)
        except UnfitError as error:
            raise CardError(f"{directory.source}: {type(network).__name__}: {error}") from error
        generator = Generator(
            decoder,
            ends,
            memory_bytes=parameters["kv_memory_mb"] << 20,
            most_sequences=parameters["max_sequences"],
        )
        return cls(decoder, generator, tokenizer)

    def warm_up(self) -> None:
        """Writes a few tokens."""
        prompt = Prompt([self._decoder.vocabulary - 1] * _WARM_UP, 2, (), Sampling())
        self.join(0, prompt)
        while len(self._generator):
            self.step()
        self.leave(0)

    def memory_bytes(self) -> int:
        """Weights, and what keys and values may take."""
        return self._decoder.memory_bytes + self._generator.memory_bytes

    def preprocess(self, request: Order) -> Prompt:
        """Splits prompt or chat into tokens, and sees that they fit."""
        field = "messages" if request.messages else "prompt"
        if request.messages:
            ids = self._encoder.encode(self._chat(request), add_special_tokens=False).ids
        else:
            ids = self._encoder.encode(request.prompt).ids
        context = min(self._decoder.context_tokens, self._generator.memory_tokens)
        if not ids:
            raise InvalidArgument("should hold at least one token", field=field)
        if max(ids) >= self._decoder.vocabulary:
            raise InvalidArgument("holds marks that the network was not made for", field=field)
        if len(ids) >= context:
            raise InvalidArgument(
                f"is {len(ids)} tokens long; this model takes at most {context - 1}", field=field
            )
        most = min(request.max_output_tokens, context - len(ids))
        return Prompt(ids, most, request.stop, request.sampling)

    def _chat(self, request: Order) -> str:
        if not self._tokenizer.chat_template:
            raise InvalidArgument("this model has no chat template; give it a prompt", field="messages")
        chat = [{"role": each.role, "content": each.content} for each in request.messages]
        try:
            text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever the template's author thought of
            raise InvalidArgument(
                f"do not fit this model's chat template: {error}", field="messages"
            ) from error
        return text

    def cost(self, prepared: Prompt) -> float:
        """The prompt's tokens."""
        return float(len(prepared.ids))

    def room_for(self, prepared: Prompt) -> bool:
        """Whether there is memory for its keys and values, and a place in the step."""
        return self._generator.room_for(prepared.tokens)

    def join(self, key: int, prepared: Prompt) -> None:
        """Takes its memory."""
        self._generator.join(key, prepared.ids, prepared.most, prepared.sampling)
        self._texts[key] = _Text(len(prepared.ids), Spelling(self._decode, prepared.stop))

    def step(self) -> Sequence[tuple[int, Piece | MeshworkError, bool]]:
        """One token of each text that is past its prompt."""
        pieces: list[tuple[int, Piece | MeshworkError, bool]] = []
        for token in self._generator.step():
            text = self._texts[token.key]
            text.output_tokens += 1
            said = "" if token.end is End.MODEL else text.spelling.add(token.id)
            finish = None
            if token.end is not None:
                said += text.spelling.end()
                finish = Finish.END if token.end is End.MODEL else Finish.LENGTH
            if text.spelling.stopped:
                finish = Finish.STOP
            if said or finish:
                piece = Piece(said, finish, text.prompt_tokens, text.output_tokens)
                pieces.append((token.key, piece, finish is not None))
            if finish:
                self.leave(token.key)
        return pieces

    def leave(self, key: int) -> None:
        """Frees its memory."""
        self._generator.leave(key)
        self._texts.pop(key, None)

    def postprocess(self, prepared: Prompt, raw: Piece) -> Piece:
        """The piece as it is."""
        return raw

    def _decode(self, ids: list[int]) -> str:
        text: str = self._encoder.decode(ids, skip_special_tokens=True)
        return text


def _ends(network: Any) -> frozenset[int]:
    """The tokens by which a model says that its text is over."""
    for config in (getattr(network, "generation_config", None), network.config):
        ends = getattr(config, "eos_token_id", None)
        if ends is not None:
            return frozenset([ends] if isinstance(ends, int) else ends)
    return frozenset()


def _parameters(directory: ModelDirectory) -> dict[str, int]:
    given: Mapping[str, Any] = directory.card.parameters
    for name, value in given.items():
        if name not in _PARAMETERS:
            raise CardError(f"{directory.source}: no parameter {name!r}; there are: {', '.join(_PARAMETERS)}")
        if not isinstance(value, int) or value < 1:
            raise CardError(f"{directory.source}: {name}: should be a whole number from 1, not {value!r}")
    return {**_PARAMETERS, **given}

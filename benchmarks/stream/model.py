"""A language model of a realistic shape and random weights: Llama's layout, 8 layers of 512.

Random weights take as long as trained ones. No text of it comes to an end by itself, so that each
answer has as many tokens as were asked for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = 16384
CONTEXT = 2048


def make(folder: Path) -> Path:
    """Writes it as Hugging Face lays it out."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.06,  # so that the likeliest token stands out, as in a trained one
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({f"w{n}": n for n in range(WORDS)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0").save_pretrained(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Order:
    """What one caller asks for."""

    prompt: list[int]
    most: int  # tokens to write

    @property
    def text(self) -> str:
        """The prompt as the caller sends it."""
        return " ".join(f"w{token}" for token in self.prompt)


def orders(count: int) -> list[Order]:
    """Orders of mixed lengths, always the same: prompts of 16 to 192 tokens, answers of 16 to 64."""
    chance = random.Random(7)
    return [
        Order(chance.choices(range(1, WORDS), k=chance.randint(16, 192)), chance.randint(16, 64))
        for _ in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one caller got."""

    first_s: float  # seconds from the beginning of the turn to the first token
    tokens: int
    text: str


def spelled(tokenizer: Any, ids: list[int]) -> str:
    """The text of tokens, as the service spells it."""
    text: str = tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True)
    return text

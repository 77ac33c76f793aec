"""A Whisper small enough for tests, with random weights: windows of 2 seconds, three languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

torch.set_num_threads(1)  # threads of networks this small only wait for each other

WINDOW_S = 2
LANGUAGES = ("en", "fr", "zh")
_TIMES = [f"<|{step * 0.02:.2f}|>" for step in range(WINDOW_S * 50 + 1)]
_SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
_TEXT = 260  # tokens before the special ones
TRANSLATE, NO_TIMES = (_TEXT + _SPECIAL.index(token) for token in ("<|translate|>", "<|notimestamps|>"))


def save(folder: Path, *, seed: int = 0, times: bool = False, **generation: Any) -> Path:
    """Writes the model, its generation config with `generation` on top, and its processor.

    Args:
        times: it may write them; real models do so if asked only, one with random weights at random.
    """
    tokenizer = _tokenizer()
    number = {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIAL}
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50 * WINDOW_S,
        max_target_positions=40,
        median_filter_width=7,
        init_std=0.3,
        pad_token_id=number["<|endoftext|>"],
        bos_token_id=number["<|endoftext|>"],
        eos_token_id=number["<|endoftext|>"],
        decoder_start_token_id=number["<|startoftranscript|>"],
    )
    model = WhisperForConditionalGeneration(config).eval()
    suppressed = _SPECIAL[1:] if times else [*_SPECIAL[1:], *_TIMES]
    settings = {
        "is_multilingual": True,
        "lang_to_id": {f"<|{language}|>": number[f"<|{language}|>"] for language in LANGUAGES},
        "task_to_id": {task: number[f"<|{task}|>"] for task in ("translate", "transcribe")},
        "no_timestamps_token_id": number["<|notimestamps|>"],
        "max_initial_timestamp_index": 25,
        "alignment_heads": [[1, 2], [0, 1], [1, 0]],
        "suppress_tokens": [tokenizer.convert_tokens_to_ids(token) for token in suppressed],
        "begin_suppress_tokens": [220, number["<|endoftext|>"]],
        "max_length": 12,
        **generation,
    }
    ends = {
        name: getattr(config, name) for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    }
    model.generation_config = GenerationConfig(**ends, **settings)
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW_S)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def _tokenizer() -> WhisperTokenizer:
    pieces = sorted(ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *map("".join, merges)])}
    vocabulary |= {token: len(vocabulary) + index for index, token in enumerate([*_SPECIAL, *_TIMES])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": _SPECIAL[1:]})
    return tokenizer

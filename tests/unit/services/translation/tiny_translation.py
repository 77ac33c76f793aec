"""Encoder-decoder translators small enough for tests, with random weights and trained tokenizers."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

from meshwork.model_config import ModelConfig
from meshwork.serving.card import ModelCard, ModelDirectory
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from services.translation.__main__ import SPEC
from services.translation.service import TranslationService

torch.set_num_threads(1)  # threads of networks this small only wait for each other

WORDS = ["two tickets", "the station", "bonjour", "Guten Morgen"]
SENTENCES = [
    "Where is the station?",
    "The train to Paris leaves at seven.",
    "I would like two tickets, please.",
    "How much does it cost?",
    "Il fait beau aujourd'hui.",
    "Guten Morgen, wie geht es Ihnen?",
]
_SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "init_std": 0.4,
    "max_position_embeddings": 60,
}


def _pieces(folder: Path, name: str, size: int = 120) -> list[str]:
    """Trains a sentencepiece model `folder/name`; its pieces, the special ones first."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5),
        model_writer=trained,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / name).write_bytes(trained.getvalue())
    loaded = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
    return [loaded.id_to_piece(index) for index in range(loaded.get_piece_size())]


def save_marian(
    folder: Path,
    *,
    marks: tuple[str, ...] = (),
    languages: tuple[str | None, str | None] = ("en", "fr"),
    beams: int = 1,
) -> Path:
    """Writes a MarianMTModel; `marks` are tokens of its targets, such as >>fra<<."""
    folder.mkdir(exist_ok=True)
    pieces = _pieces(folder, "source.spm")
    _pieces(folder, "target.spm")
    words = ["</s>", "<unk>", *marks, *pieces[3:], "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    files = {name: str(folder / f"{name.replace('_', '.')}") for name in ("source_spm", "target_spm")}
    tokenizer = MarianTokenizer(
        **files, vocab=str(folder / "vocab.json"), source_lang=languages[0], target_lang=languages[1]
    )
    pad, end = len(words) - 1, 0
    torch.manual_seed(0)
    config = MarianConfig(
        **_SIZES, vocab_size=len(words), pad_token_id=pad, eos_token_id=end, decoder_start_token_id=pad
    )
    model = MarianMTModel(config)
    model.generation_config = GenerationConfig(
        num_beams=beams,
        max_length=28,
        no_repeat_ngram_size=1,  # or random weights would write one token over and over
        bad_words_ids=[[pad]],
        forced_eos_token_id=end,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
    )
    return _saved(folder, model, tokenizer)


def save_m2m100(folder: Path, *, beams: int = 1) -> Path:
    """Writes an M2M100 with its hundred languages."""
    folder.mkdir(exist_ok=True)
    pieces = _pieces(folder, "sentencepiece.bpe.model")
    words = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:]]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    tokenizer = M2M100Tokenizer(
        str(folder / "vocab.json"),
        str(folder / "sentencepiece.bpe.model"),
        additional_special_tokens=[f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]],
    )
    return _saved(folder, _m2m100(len(words) + 108, beams), tokenizer)


def save_nllb(folder: Path, *, beams: int = 1, legacy: bool = False) -> Path:
    """Writes an NLLB: the same network with another tokenizer, of characters."""
    folder.mkdir(exist_ok=True)
    letters = sorted(set("".join(SENTENCES).replace(" ", "")) | set("0123456789"))
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters]
    tokenizer = NllbTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], legacy_behaviour=legacy
    )
    return _saved(folder, _m2m100(len(tokenizer), beams), tokenizer)


def _m2m100(vocabulary: int, beams: int) -> M2M100ForConditionalGeneration:
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(
        M2M100Config(**_SIZES, vocab_size=vocabulary, decoder_start_token_id=2, scale_embedding=True)
    )
    model.generation_config = GenerationConfig(
        num_beams=beams,
        max_length=20,
        no_repeat_ngram_size=1,
        early_stopping=beams > 1,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    return model


def _saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def directory(folder: Path, *, precision: str = "float32", **parameters: Any) -> ModelDirectory:
    """The folder with a card made for it."""
    card = ModelCard(
        name="tiny",
        version="1",
        service="translation",
        task="any",
        methods=("any",),
        precision=precision,
        parameters=parameters,
    )
    return ModelDirectory(path=folder, card=card, source=str(folder))


@asynccontextmanager
async def serving(config: ModelConfig) -> AsyncIterator[TranslationService]:
    """The service with one model."""
    models = ModelTable(
        "translation", "translation-test", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures
    )
    await models.add(config)
    assert not models.describe()[0].error, models.describe()[0].error
    context: Any = type("Context", (), {"models": models})
    yield TranslationService(context)
    await models.close()

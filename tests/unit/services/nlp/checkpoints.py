"""Tiny checkpoints of Hugging Face's text networks: random weights from a seed, tokenizers made here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a library that only loads references here
    import torch
    import transformers
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

SENTENCES = [
    "Ada Lovelace lived in London and wrote the first program for Babbage's engine.",
    "The ferry to Bergen leaves at nine; it rains there most days of the year.",
    "Who wrote the first program? Where does the ferry go? When did it rain?",
    "Naïve cafés serve crème brûlée, 42 kinds of tea and no coffee at all!",
    "A telescope in Chile found a new galaxy, said the astronomers of Göttingen.",
    "I forgot my password and cannot reset it under Account, Security.",
    "日本語の文 and 🙂 emoji stand beside plain words.",
]
TEXTS = ["Hi", "Where?", *SENTENCES, " ".join(SENTENCES[:3]), "a " * 30, "🙂 Ada", SENTENCES[0]]
ARCHITECTURES = ("bert", "distilbert", "roberta", "deberta-v2", "deberta", "electra", "mpnet")
LONGEST = 128
SIZE = 32


def _trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _trained(
        tokenizer, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _trained(
        tokenizer,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _trained(
        tokenizer,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="[UNK]", show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _tokenizer(architecture: str) -> transformers.PreTrainedTokenizerFast:
    names = ["input_ids", "attention_mask"]
    if architecture in ("roberta", "mpnet"):
        words = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        words |= {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
        made = _byte_level()
    else:
        words = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
        made = _unigram() if architecture == "deberta-v2" else _wordpiece()
        if architecture in ("bert", "electra"):
            names.insert(1, "token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=LONGEST, model_input_names=names, **words
    )


def _config(architecture: str, vocabulary: int, **settings: Any) -> Any:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * SIZE,
        "max_position_embeddings": LONGEST,
        "type_vocab_size": 2,
    }
    match architecture:
        case "bert":
            return transformers.BertConfig(**sizes, **settings)
        case "electra":
            return transformers.ElectraConfig(**sizes, embedding_size=SIZE // 2, **settings)
        case "roberta":
            sizes |= {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1, "pad_token_id": 1}
            return transformers.RobertaConfig(**sizes, **settings)
        case "distilbert":
            return transformers.DistilBertConfig(
                vocab_size=vocabulary,
                dim=SIZE,
                n_layers=2,
                n_heads=4,
                hidden_dim=2 * SIZE,
                max_position_embeddings=LONGEST,
                **settings,
            )
        case "mpnet":
            sizes |= {"max_position_embeddings": LONGEST + 2, "pad_token_id": 1}
            del sizes["type_vocab_size"]
            return transformers.MPNetConfig(**sizes, **settings)
        case "deberta":
            sizes |= {"type_vocab_size": 0}
            return transformers.DebertaConfig(
                **sizes, relative_attention=True, pos_att_type=["p2c", "c2p"], **settings
            )
        case "deberta-v2":
            sizes |= {"type_vocab_size": 0, "position_buckets": 16}
            return transformers.DebertaV2Config(
                **sizes, relative_attention=True, pos_att_type=["p2c", "c2p"], **settings
            )
    raise AssertionError(architecture)


def make(folder: Path, architecture: str, auto_class: str, seed: int = 0, **settings: Any) -> Path:
    """A directory as `save_pretrained` makes it, of a network whose every weight says something."""
    tokenizer = _tokenizer(architecture)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = _config(architecture, len(tokenizer), **settings)
    network = getattr(transformers, auto_class).from_config(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
    transformers.utils.logging.disable_progress_bar()
    network.save_pretrained(folder)
    return folder


def labels(*names: str) -> dict[str, Any]:
    """Settings of a configuration with these classes."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
